"""What running a pick takes: its files, where they are or come from, the disk, the licence and the command."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.machine import Record
from advisor.tui.services import Services
from advisor.tui.state import Answer
from advisor.units import format_file_size

if TYPE_CHECKING:
    from advisor.files.store import File, Wanted

ELSEWHERE = "this is another machine: take the command there"


class Errand(Record, frozen=True, kw_only=True):
    """All that is shown before anything is written. Sizes in bytes; `missing`: still to be fetched."""

    files: tuple[File, ...]
    missing: int
    free: int
    folder: str
    licence: str
    command: str

    @property
    def argv(self) -> tuple[str, ...]:
        """The command's words after `advisor`."""
        return tuple(shlex.split(self.command)[1:])

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what is missing."""
        return self.missing <= self.free

    @property
    def lines(self) -> tuple[str, ...]:
        """The same as sentences."""
        files = [
            f"{role(one)}: {Path(one.file).name}, {format_file_size(one.size)}, {place(one)}." for one in self.files
        ]
        fetch = f"To fetch: {format_file_size(self.missing)}; {format_file_size(self.free)} are free in {self.folder}."
        return (*files, fetch if self.missing else "Everything is here.", f"Licence: {self.licence}.")


def errand(answer: Answer, world: Services, *, ask: bool = False) -> Errand:
    """The errand of an answer. Blocks: it looks at files, and with `ask` at what the repositories list today.

    Raises:
        DownloadFailed, RuntimeFailed: with `ask`, as `store.locate`.
    """
    from advisor.files import store  # noqa: PLC0415 - an HTTP library, for those who go on

    look: Callable[[Sequence[Wanted]], Sequence[File]] = world.files_there if ask else world.files_here
    files = tuple(look(wanted(answer)))
    return Errand(
        files=files,
        missing=store.missing_bytes(files),
        free=world.free_disk(),
        folder=short(world.cache()),
        licence=answer.candidate.model.licence,
        command=answer.pick.command,
    )


def ordered(command: str, world: Services) -> Errand:
    """The errand of a command line that no answer stands behind. Blocks: it looks at this machine and for files.

    Raises:
        AdvisorError: as `launching.configure`.
    """
    from advisor.commands.again import order  # noqa: PLC0415 - it imports all that talks to a server
    from advisor.files import store  # noqa: PLC0415
    from advisor.running import repositories  # noqa: PLC0415

    setup = world.outline(order(command))
    files = repositories.entries(setup)
    return Errand(
        files=files,
        missing=store.missing_bytes(files),
        free=world.free_disk(),
        folder=short(world.cache()),
        licence=setup.licence,
        command=command,
    )


def repeated(command: str) -> Errand:
    """The errand of what ran before: all of it is here."""
    return Errand(files=(), missing=0, free=0, folder="", licence="", command=command)


def in_the_way(answer: Answer, found: Errand) -> str:
    """Why an answer cannot be started here; empty when it can."""
    if not answer.choice.here:
        return ELSEWHERE
    if answer.pick.backend not in {one.name for one in answer.ranking.machine.backends if one.available}:
        return f"{answer.pick.backend} is not here: the list of backends says how to get it"
    return shortage(found)


def shortage(found: Errand) -> str:
    """What the disk lacks; empty where it has room."""
    return "" if found.fits else f"the disk lacks {format_file_size(found.missing - found.free)}"


def wanted(answer: Answer) -> tuple[Wanted, ...]:
    """The files of the pick, as the catalogue knows them."""
    from advisor.files import store  # noqa: PLC0415

    one = answer.candidate
    draft = one.drafter.file if one.drafter.enabled else None
    return store.needed(one.model, one.quant, draft, one.model.projector if one.load.projector else None)


def short(folder: Path) -> str:
    """A folder with `~` for the user's own."""
    try:
        return f"~/{folder.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return str(folder)


def role(file: File) -> str:
    """What the file is for."""
    return {"target": "Model", "drafter": "Drafter", "projector": "Projector"}[file.role]


def place(file: File) -> str:
    """Where it is, or where it comes from."""
    return f"here ({file.source})" if file.here else f"from {file.repo}"
