"""What the wizard asks of the world outside: one record, so that tests and pictures can stand in another world."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from advisor.errors import DownloadFailed
from advisor.machine import Machine

if TYPE_CHECKING:
    from advisor.files.store import File, Wanted
    from advisor.running.order import Order, Setup
    from advisor.running.sessions import Session
    from advisor.trials.calibration import Stage
    from advisor.trials.costs import Calibration
    from backends.base import Backend, Progress


def detect() -> Machine:
    """This machine. Takes a tenth of a second and more."""
    from advisor import api  # noqa: PLC0415

    return api.detect()


def sessions() -> Sequence[Session]:
    """What this user has running."""
    from advisor.running import sessions as running  # noqa: PLC0415

    return running.living()


def files_here(wanted: Sequence[Wanted]) -> Sequence[File]:
    """Where the files are, without asking anybody: those that are not here have the catalogue's size."""
    from advisor.files import store  # noqa: PLC0415

    def nobody(repo: str) -> NoReturn:
        raise DownloadFailed(f"{repo} was not asked")

    return store.locate(wanted, lister=nobody, strict=False)


def files_there(wanted: Sequence[Wanted]) -> Sequence[File]:
    """The same with what the repositories say today. Uses the network; reads listings and headers only.

    Raises:
        DownloadFailed, RuntimeFailed: as `store.locate`.
    """
    from advisor.files import store  # noqa: PLC0415

    return store.locate(wanted)


def free_disk() -> int:
    """Bytes free where downloads go."""
    from advisor.files import store  # noqa: PLC0415

    return store.free_disk()


def cache() -> Path:
    """Where downloads go."""
    from advisor.files import shelves  # noqa: PLC0415

    return shelves.hub_cache()


def configure(order: Order) -> Setup:
    """What starting an order takes.

    Raises:
        AdvisorError: as `launching.configure`.
    """
    from advisor.running import launching  # noqa: PLC0415

    return launching.configure(order)


def outline(order: Order) -> Setup:
    """The same without asking anybody or making anything: sizes are the catalogue's.

    Raises:
        AdvisorError: as `launching.configure`.
    """
    from advisor.running import launching  # noqa: PLC0415

    return launching.configure(order, strict=False)


def fetch(setup: Setup, progress: Progress) -> None:
    """Its files that are not here; stopped at any point, it goes on there the next time.

    Raises:
        DownloadFailed, RuntimeFailed: as `store.fetch` and `store.verified`.
    """
    from advisor.files import store  # noqa: PLC0415
    from advisor.running import licences  # noqa: PLC0415

    if store.missing_bytes(setup.files):
        licences.shown(setup.model.name, setup.licence)  # the summary has
    store.fetch(setup.files, progress)
    if setup.files:
        store.verified(setup.files)


def backend(name: str) -> Backend:
    """What runs it.

    Raises:
        NoBackend: it cannot be used here.
    """
    from backends.base import usable  # noqa: PLC0415

    return usable(name)


def serve(name: str) -> None:
    """Start the server that a backend needs, and leave it running.

    Raises:
        AdvisorError: it does not come up.
    """
    from backends.base import load  # noqa: PLC0415

    load(name).serve()


def uncalibrated(machine: Machine) -> bool:
    """Whether a calibration is worth offering."""
    from advisor.trials import calibration  # noqa: PLC0415

    return calibration.is_wanted(machine)


def calibrate(machine: Machine, stop: threading.Event) -> Iterator[Stage | Calibration]:
    """Measure this machine; as `calibration.run`."""
    from advisor.trials import calibration  # noqa: PLC0415

    return calibration.run(machine, stop)


def decline(machine: Machine) -> None:
    """Do not offer a calibration of it again."""
    from advisor.trials import calibration  # noqa: PLC0415

    calibration.decline(machine)


@dataclass(frozen=True)
class Services:
    """The world. Every call may take long: they are made in thread workers only."""

    detect: Callable[[], Machine] = field(default=detect)
    sessions: Callable[[], Sequence[Session]] = field(default=sessions)
    files_here: Callable[[Sequence[Wanted]], Sequence[File]] = field(default=files_here)
    files_there: Callable[[Sequence[Wanted]], Sequence[File]] = field(default=files_there)
    free_disk: Callable[[], int] = field(default=free_disk)
    cache: Callable[[], Path] = field(default=cache)
    configure: Callable[[Order], Setup] = field(default=configure)
    outline: Callable[[Order], Setup] = field(default=outline)
    fetch: Callable[[Setup, Progress], None] = field(default=fetch)
    backend: Callable[[str], Backend] = field(default=backend)
    serve: Callable[[str], None] = field(default=serve)
    uncalibrated: Callable[[Machine], bool] = field(default=uncalibrated)
    calibrate: Callable[[Machine, threading.Event], Iterator[Stage | Calibration]] = field(default=calibrate)
    decline: Callable[[Machine], None] = field(default=decline)
    each_s: float = 10.0
    """Seconds for each side of a kind in the trial."""
