"""Which drafter goes with a target of the user's own: one that is on this machine already.

A drafter belongs to a target by architecture, width and vocabulary (`gguf.checked_drafter`). Of several, the one that
was trained as the target was is taken: QAT with QAT.
"""

from __future__ import annotations

import re
from pathlib import Path

from advisor.errors import AdvisorError
from advisor.files import gguf, shelves
from advisor.files.gguf import Header
from advisor.files.store import File
from advisor.machine import Record

BESIDE, GIVEN = shelves.BESIDE, "given"
UNLIKE = "one of the two is a QAT file and the other is not, so fewer drafts may be right"
QAT = "qat"
REPOSITORY = re.compile(r"models--.+|.+-gguf", re.IGNORECASE)
"""Folders that are named as a repository is: its name says how the files in it were made."""


class Match(Record, frozen=True, kw_only=True):
    """A drafter that fits, and who keeps it. `size`: bytes. `alike`: trained as the target was; None: nothing tells."""

    path: Path
    source: str
    size: int
    alike: bool | None = None

    @property
    def words(self) -> str:
        """In one line."""
        return "; ".join(part for part in (f"{self.path.name} ({self.source})", self.note) if part)

    @property
    def note(self) -> str:
        return UNLIKE if self.alike is False else ""

    @property
    def file(self) -> File:
        """As one of the files of a choice."""
        name = self.path.name
        return File(
            role="drafter", repo="", file=name, size=self.size, path=self.path, source=self.source, note=self.note
        )


def of(target: Path, given: Path | None) -> Match | None:
    """The drafter that the user gave, as it is, or the best one that is here.

    Raises:
        RuntimeFailed: the file given is missing or damaged. Whether it belongs to the target is for `gguf.pair` to say.
    """
    return find(target) if given is None else as_given(given, qat=is_qat(gguf.read(target)))


def as_given(drafter: Path, *, qat: bool | None) -> Match:
    """A drafter that the user gave. `qat`: whether its target is a QAT file.

    Raises:
        RuntimeFailed: it is missing or damaged.
    """
    header = gguf.read(drafter)
    return Match(path=drafter, source=GIVEN, size=header.total_bytes, alike=_same(qat, is_qat(header)))


def find(target: Path) -> Match | None:
    """The best drafter on this machine for a target; None where there is none, or where the target is no Gemma 4."""
    try:
        model = gguf.checked_target(gguf.read_whole(target))
    except AdvisorError:
        return None
    fitting = [match for each in shelves.drafters(target) if (match := _match(each, model))]
    return min(fitting, key=_rank, default=None)


def _rank(match: Match) -> tuple[int, bool, int]:
    """QAT with QAT, then what the user put beside it, then the smaller one: it is read for every drafted token."""
    return (True, None, False).index(match.alike), match.source != BESIDE, match.size


def _match(found: shelves.Shelved, model: Header) -> Match | None:
    try:
        header = gguf.checked_drafter(gguf.read(found.path), model)
    except AdvisorError:
        return None
    return Match(path=found.path, source=found.source, size=header.total_bytes, alike=alike(model, header))


def alike(model: Header, drafter: Header) -> bool | None:
    """Whether both are QAT files or neither is; None where the names and metadata of one do not tell."""
    return _same(is_qat(model), is_qat(drafter))


def _same(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None or other is None else one is other


def is_qat(header: Header) -> bool | None:
    """Whether a file is of a model that was trained for its few bits; None where nothing tells.

    The word is in the file's name, its metadata or its repository's name; a repository without it has none such.
    """
    repositories = [part for part in header.path.parts[-5:-1] if REPOSITORY.fullmatch(part)]
    said = [value for key, value in header.values.items() if key.startswith("general.") and isinstance(value, str)]
    if any(QAT in text.lower() for text in (header.path.name, *repositories, *said)):
        return True
    return False if repositories else None


def files(target: Path, drafter: Match | None) -> tuple[File, ...]:
    """Both as files that are here, for those who list them."""
    size = gguf.read_whole(target).total_bytes
    own = File(role="target", repo="", file=target.name, size=size, path=target, source=GIVEN)
    return (own, drafter.file) if drafter else (own,)
