"""The backend interface: how a recommendation becomes a running endpoint.

A backend ends as an HTTP server on the loopback address that speaks the OpenAI chat API: one client serves all.
To add one: subclass `Backend` and register the class in the entry-point group `advisor.backends`. Importing a module of
a backend must be cheap; whatever it drives is imported inside its methods.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.errors import AdvisorError, NoBackend, RuntimeFailed, unknown_name
from advisor.machine import Availability, Gpu, Record

if TYPE_CHECKING:
    from advisor.running.client import Client

GROUP = "advisor.backends"

Progress = Callable[[str, int, int | None], None]
"""Called with (what, bytes done, bytes in all or None)."""


class Model(Record, frozen=True, kw_only=True):
    """What is to be run: files on this machine, or what a runtime's own library has.

    `draft_tokens`: tokens drafted per round, 0 for plain decoding. `tag`: the target's name in that library; `target`
    is then no file of this machine. `sampling`: what requests that ask for nothing else get.
    """

    name: str
    target: Path
    drafter: Path | None = None
    projector: Path | None = None
    draft_tokens: int = 0
    context_tokens: int = 4096
    tag: str = ""
    sampling: dict[str, float] = {}

    @property
    def drafts(self) -> bool:
        """Whether there is a drafter: a file of its own, or one inside the target's."""
        return self.drafter is not None or (self.draft_tokens != 0 and self.target.suffix == ".litertlm")


class Container(Record, frozen=True, kw_only=True):
    """What runs containers, and the image of a server. `here`: it need not be fetched."""

    program: str
    image: str
    here: bool = False


class Options(Record, frozen=True, kw_only=True):
    """How it is to be run; the same for all backends. `port` 0: any free one. `gpu_layers` None: by the backend; 0: on
    the processor only. `gpus`: the cards to use, all that there are where it is empty; `drafter_gpu`: which of them the
    drafter must be on, None where it does not matter.

    `cpu_expert_layers`: layers whose experts stay in main memory. `sequences`: conversations at once, each with the
    whole context. `cache_bytes`, `checkpoints`: main memory for prompts that were read before, and states to go back
    to in each conversation; None: by the backend. `api_key`: asked of all who come; it is never shown. `extra`: passed
    on to the runtime as they are. `detached`: it outlives this process. `log`: where the runtime writes, None for a
    file of the backend's own. `hosts`: machines that serve one model together, this one first. `server`: the address of
    a server that runs already and is used as it is; nothing is started. `container`: the image to plan for.
    """

    host: str = "127.0.0.1"
    port: int = 0
    threads: int | None = None
    gpus: tuple[Gpu, ...] = ()
    drafter_gpu: Gpu | None = None
    gpu_layers: int | None = None
    cpu_expert_layers: int = 0
    kv_type: str = "f16"
    sequences: int = 1
    cache_bytes: int | None = None
    checkpoints: int | None = None
    api_key: str | None = None
    extra: tuple[str, ...] = ()
    detached: bool = False
    log: Path | None = None
    hosts: tuple[str, ...] = ()
    server: str = ""
    container: Container | None = None


class LaunchPlan(Record, frozen=True, kw_only=True):
    """What `start` will do: what `--dry-run` prints. `command` is the human's own way to the same; `hosts`: what is to
    be typed on each other machine."""

    backend: str
    model: Model
    options: Options
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    requests: tuple[dict[str, str], ...] = ()
    command: str = ""
    hosts: dict[str, str] = {}


class Endpoint(Record, frozen=True, kw_only=True):
    """A running server. `base_url` ends in `/v1`; `api_key`: what it wants to be shown, where it wants one.

    `pid` None: it ends with the process that started it. 0: the server was there before, and stays.
    """

    base_url: str
    model: str
    backend: str
    pid: int | None
    name: str
    log: Path | None = None
    drafter: bool = False
    api_key: str | None = None


def _unseen(_what: str, _done: int, _size: int | None) -> None: ...


def _unheard(_endpoint: Endpoint) -> None: ...


class Watch(Record, frozen=True, kw_only=True):
    """Who wants to know how a start goes. `progress`: told of bytes in memory and in all. `spawned`: told of the
    process as soon as there is one, long before it answers; nothing of it runs on its own before this returns."""

    progress: Progress = _unseen
    spawned: Callable[[Endpoint], None] = _unheard


UNWATCHED = Watch()


class Stats(Record, frozen=True, kw_only=True):
    """Counters since the endpoint started; `drafter_active` is a fact (drafted > 0), not a setting.

    `unknown`: why nothing could be counted; empty where it was.
    """

    predicted_tokens: int
    predicted_per_second: float | None = None
    drafted: int = 0
    accepted: int = 0
    accepted_per_position: tuple[float, ...] = ()
    drafter_active: bool = False
    memory_bytes: int | None = None
    unknown: str = ""


class Verdict(Record, frozen=True, kw_only=True):
    """Whether an endpoint drafts, and how that is known. `active` None: it cannot be known. `slower`: than plain
    decoding, where that was measured."""

    active: bool | None
    reason: str
    slower: bool = False


class Held(Record, frozen=True, kw_only=True):
    """A model in a runtime's own library. `size`: bytes on disk. `drafter`: one is attached; None: it does not tell."""

    name: str
    quant: str
    size: int
    drafter: bool | None = None
    loaded: bool = False


class Backend(abc.ABC):
    """One runtime. Methods raise `AdvisorError`s only."""

    name: str
    shared: bool = False
    """Its server has a life and an address of its own, and serves others too."""
    drafts_per_request: bool = False
    """Its server takes the draft length from the request (`draft_tokens`, a number or `auto`), so that nothing has to
    be started again to compare lengths."""
    waived: Mapping[str, str] = {}
    """Rules of `backends.conformance` that this runtime cannot keep, with the reason: skipped, and said to be."""

    @abc.abstractmethod
    def detect(self) -> Availability:
        """Whether this runtime can be used here; fast (no import of the runtime, no network), never raises."""

    def reports(self) -> tuple[tuple[str, ...], ...]:
        """Command lines that print which build this is and what it can compute on, for bug reports. Default: none."""
        return ()

    @abc.abstractmethod
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """Pure: what starting `model` would take."""

    def refusal(self, model: Model) -> str:  # noqa: ARG002 - for those who override it
        """Why this runtime cannot run such files (a format that it does not read). Default: nothing is known against
        them."""
        return ""

    def prepare(self, plan: LaunchPlan, progress: Progress) -> None:
        """Fetch or create what the plan needs; resumable. Default: nothing to do."""

    @abc.abstractmethod
    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """Start it and return once it answers.

        Args:
            watch: told of the process before anything is loaded, and of the loading.

        Raises:
            RuntimeFailed: with the last useful log lines.
        """

    @abc.abstractmethod
    def stats(self, endpoint: Endpoint) -> Stats:
        """What the endpoint counted so far."""

    def client(self, endpoint: Endpoint) -> Client | None:  # noqa: ARG002 - for those who override it
        """A client with a dialect of its own, where the OpenAI one would not see what counts. Default: none."""
        return None

    def drafting(self, endpoint: Endpoint) -> Verdict | None:  # noqa: ARG002
        """Whether the drafter works, where an answer that counts no drafts does not mean that there were none; may take
        as long as a few answers. Default: replies count them."""
        return None

    def why_plain(self, endpoint: Endpoint) -> str:  # noqa: ARG002
        """Why nothing was drafted where there is a drafter. Default: what an engine that adapts its lengths found."""
        return "plain decoding is faster here, as measured while answering"

    def gone(self, endpoint: Endpoint) -> bool:  # noqa: ARG002
        """Whether an endpoint without a process of its own has ended. Default: no."""
        return False

    def serve(self) -> None:
        """Start the server that a shared backend needs, and leave it running. Default: it has none.

        Raises:
            NoBackend: it does not come up.
        """
        raise NoBackend(f"{self.name} has no server of its own to start")

    def held(self) -> tuple[Held, ...]:
        """The models in the runtime's own library. Default: it keeps none.

        Raises:
            AdvisorError: it cannot be asked.
        """
        return ()

    def remove(self, endpoint: Endpoint) -> tuple[str, ...]:  # noqa: ARG002
        """Take away what `prepare` made for a stopped endpoint, and nothing else; returns the names. Default: nothing
        was made."""
        return ()

    def cause(self, endpoint: Endpoint) -> AdvisorError:
        """Why an endpoint no longer answers; may take a second to find out. Default: that it does not."""
        return RuntimeFailed(f"the server at {endpoint.base_url} does not answer")

    @abc.abstractmethod
    def stop(self, endpoint: Endpoint) -> None:
        """Stop it; done when nothing of it runs any more. Stopping what has gone is not an error."""


def registered() -> dict[str, EntryPoint]:
    """Every registered backend by name, without importing any."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def load(name: str) -> Backend:
    """The backend registered as `name`.

    Raises:
        UsageError: no such backend.
        NoBackend: its plugin fails to import.
    """
    points = registered()
    if name not in points:
        raise unknown_name("backend", name, points)
    return loaded(points[name])


def usable(name: str) -> Backend:
    """The backend of that name, if it can be used here.

    Raises:
        UsageError: no such backend.
        NoBackend: it cannot be used here.
    """
    backend = load(name)
    found = backend.detect()
    if not found.available:
        raise NoBackend(f"{name} cannot be used here: {found.why_not}", hint=found.hint or "")
    return backend


def loaded(point: EntryPoint) -> Backend:
    """The backend behind an entry point.

    Raises:
        NoBackend: its plugin fails to import.
    """
    try:
        backend: Backend = point.load()()
    except Exception as error:
        raise NoBackend(
            f"the backend {point.name!r} ({point.value}) cannot be loaded: {error}",
            hint="reinstall or remove the package that provides it",
        ) from error
    return backend


def availabilities() -> Iterator[Availability]:
    """What each registered backend says of this machine; a broken plugin is reported, never raised."""
    # Looked up once: reading the entry points of all packages is the slowest part of a detection.
    for name, point in registered().items():
        try:
            yield loaded(point).detect()
        except AdvisorError as error:
            yield Availability(name=name, available=False, why_not=error.message, hint=error.hint or None)
