"""The files that a choice needs: what they are, whether they are here, and how they get here.

Names come from the catalogue, but the repository's own listing decides: uploads are renamed. Before anything large is
fetched, the header of the remote file must say that it is what it should be.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from advisor.errors import DownloadFailed, RuntimeFailed
from advisor.files import download, gguf, hub, remote, shelves
from advisor.files.gguf import Header
from advisor.files.hub import Listing, Upload
from advisor.knowledge.profile import DrafterFile, ModelProfile, Projector, Quant
from advisor.machine import Record
from advisor.units import format_file_size
from backends.base import Progress

Role = Literal["target", "drafter", "projector"]

ARCHITECTURES: dict[Role, frozenset[str]] = {
    "target": frozenset({gguf.TARGET}),
    "drafter": frozenset({gguf.DRAFTER}),
    "projector": frozenset({"clip"}),
}
MARGIN = 1 << 28
"""Bytes that stay free on the disk."""
WAIT_S = 0.5
"""Between two looks at what another program has fetched."""
ONE_REPLY = 50 * 10**9
"""The Hub does not send larger files over plain HTTP; its own client has another way."""


class Wanted(Record, frozen=True, kw_only=True):
    """A file that a choice needs, as the catalogue knows it. `size`: bytes. `width`: of the model it belongs to."""

    role: Role
    repo: str
    file: str
    size: int
    width: int


class File(Record, frozen=True, kw_only=True):
    """A file that is here, or where it will be. `source`: who keeps it, or `download`.
    `note`: what the user should know of it."""

    role: Role
    repo: str
    file: str
    size: int
    path: Path
    source: str
    sha256: str = ""
    note: str = ""

    @property
    def here(self) -> bool:
        return self.source != "download"


Lister = Callable[[str], Listing]


# ---- What is needed


def needed(
    profile: ModelProfile, quant: Quant, drafter: DrafterFile | None, projector: Projector | None = None
) -> tuple[Wanted, ...]:
    """The files of a choice; of a split target, its first part stands for all."""
    width = profile.architecture.hidden
    found = [Wanted(role="target", repo=quant.repo, file=quant.file, size=int(quant.bytes), width=width)]
    if drafter is not None:
        found.append(Wanted(role="drafter", repo=drafter.repo, file=drafter.file, size=int(drafter.bytes), width=width))
    if projector is not None:
        found.append(
            Wanted(role="projector", repo=projector.repo, file=projector.file, size=int(projector.bytes), width=width)
        )
    return tuple(found)


def locate(wanted: Iterable[Wanted], *, lister: Lister | None = None, strict: bool = True) -> tuple[File, ...]:
    """Each file where it is, or where it will be after `fetch`. Nothing but listings and headers is read remotely.

    Args:
        lister: what reads a repository's listing.
        strict: whether a repository that cannot be read is an error; otherwise its files are named `hf:repo/file`.

    Raises:
        DownloadFailed: a repository cannot be read, or no longer has the file.
        RuntimeFailed: what it has is something else than it should be.
    """
    read = lister or hub.listing
    known: dict[str, Listing] = {}
    found: list[File] = []
    for each in wanted:
        if shelved := shelves.find(each.repo, each.file, each.size, partial(suits, each)):
            found.append(_file(each, each.file, shelved.path, shelved.source))
            continue
        try:
            if each.repo not in known:
                known[each.repo] = read(each.repo)
            found += _uploaded(each, known[each.repo])
        except DownloadFailed:
            if strict:
                raise
            found.append(_file(each, each.file, Path(f"hf:{each.repo}/{each.file}"), "download"))
    return tuple(found)


def _file(wanted: Wanted, name: str, path: Path, source: str, *, size: int | None = None, sha256: str = "") -> File:
    return File(
        role=wanted.role,
        repo=wanted.repo,
        file=name,
        size=wanted.size if size is None else size,
        path=path,
        source=source,
        sha256=sha256,
    )


def _uploaded(wanted: Wanted, there: Listing) -> list[File]:
    """What to fetch for it, after a look at its header: all parts, where it is split."""
    upload = choose(wanted, there)
    if upload.name != wanted.file and (
        shelved := shelves.find(wanted.repo, upload.name, upload.size, partial(suits, wanted))
    ):
        return [_file(wanted, upload.name, shelved.path, shelved.source)]
    check(wanted, upload.name)
    folder, _, base = upload.name.rpartition("/")
    names = {f"{folder}/{part}".lstrip("/") for part in gguf.part_names(base)}
    parts = sorted((one for one in there.uploads if one.name in names), key=lambda one: one.name)
    if len(parts) != len(names):
        raise DownloadFailed(f"{wanted.repo} lacks parts of {upload.name}", hint="choose another --quant")
    snapshot = shelves.repo_folder(wanted.repo) / "snapshots" / there.commit
    return [_file(wanted, one.name, snapshot / one.name, "download", size=one.size, sha256=one.sha256) for one in parts]


def choose(wanted: Wanted, there: Listing) -> Upload:
    """The upload that is the wanted file, under whatever name it has today.

    Raises:
        DownloadFailed: there is none.
    """
    files = [one for one in there.uploads if one.name.lower().endswith(".gguf")]
    base = Path(wanted.file).name.lower()
    alike = [one for one in files if one.name == wanted.file]
    alike = alike or [one for one in files if Path(one.name).name.lower() == base]
    alike = alike or [one for one in files if _role(one.name) == wanted.role and _same_kind(wanted, one)]
    if not alike:
        others = ", ".join(one.name for one in files[:8]) or "no GGUF at all"
        raise DownloadFailed(f"{wanted.repo} no longer has {wanted.file}", hint=f"it has {others}")
    return min(alike, key=lambda one: abs(one.size - wanted.size))


def _role(name: str) -> Role:
    lowered = name.lower()
    if "mmproj" in lowered:
        return "projector"
    return "drafter" if "mtp" in lowered or "assistant" in lowered else "target"


def _same_kind(wanted: Wanted, upload: Upload) -> bool:
    """Whether a differently named upload may be it: a target has its quant in the name; the others are known by role,
    and the one that is nearest in size is taken."""
    if wanted.role != "target":
        return True
    quant = Path(wanted.file).stem.lower().rpartition("-")[2]
    return upload.name.lower().endswith(f"{quant}.gguf")


# ---- What the Hub has


def check(wanted: Wanted, name: str) -> None:
    """Read the header of the remote file: it must be what its name says.

    Raises:
        RuntimeFailed: it is something else; the message says what.
    """
    with hub.client() as http:
        header = remote.read(http, remote.address(f"hf:{wanted.repo}/{name}"), part=False)
    place = f"{wanted.repo}/{name}"
    hint = "nothing was fetched; choose another --quant, or give a file with --drafter"
    if header.architecture in gguf.OLD_DRAFTERS:
        raise RuntimeFailed(
            f"{place} is a drafter in a format ({header.architecture}) that llama.cpp does not load", hint=hint
        )
    if header.architecture not in ARCHITECTURES[wanted.role]:
        raise RuntimeFailed(f"{place} is no {wanted.role}: its architecture is {header.architecture!r}", hint=hint)
    width = _width(header, wanted.role)
    if width and width != wanted.width:
        raise RuntimeFailed(f"{place} is made for a width of {width}, this model's is {wanted.width}", hint=hint)


def suits(wanted: Wanted, header: Header) -> bool:
    """Whether a header is that of the wanted file: its kind and, where it tells, its width."""
    width = _width(header, wanted.role)
    return header.architecture in ARCHITECTURES[wanted.role] and width in (0, wanted.width)


def _width(header: Header, role: Role) -> int:
    return {"target": header.embedding_length, "drafter": header.embedding_length_out, "projector": 0}[role]


# ---- Fetching


def missing_bytes(files: Iterable[File]) -> int:
    """What is still to be fetched."""
    return sum(max(0, file.size - _partial(file)) for file in files if not file.here)


def _blob(file: File) -> Path:
    return shelves.repo_folder(file.repo) / "blobs" / file.sha256


def _partial(file: File) -> int:
    part = _blob(file).with_name(file.sha256 + download.PART)
    return part.stat().st_size if part.is_file() else 0


def free_disk() -> int:
    """Bytes free where downloads go."""
    folder = shelves.hub_cache()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(files: Iterable[File], progress: Progress) -> None:
    """Fetch what is not here. Stopped at any point, it goes on there the next time.

    Raises:
        DownloadFailed: with what to do about it.
    """
    wanted = [file for file in files if not file.here]
    short = missing_bytes(wanted) + MARGIN - free_disk()
    if wanted and short > 0:
        raise DownloadFailed(
            f"{format_file_size(missing_bytes(wanted))} are to be fetched, "
            f"and {format_file_size(free_disk())} are free in {shelves.hub_cache()}",
            hint=f"free {format_file_size(short)}, or set HF_HOME to a folder on another disk",
        )
    for file in wanted:
        _fetch(file, progress)


def _fetch(file: File, progress: Progress) -> None:
    if not file.sha256 or file.size > ONE_REPLY:
        _link(file)  # huggingface_hub fetches it by its own means
        return
    # The lock of huggingface_hub itself: whoever else wants this file waits, and finds it.
    lock = shelves.hub_cache() / ".locks" / shelves.repo_folder(file.repo).name / f"{file.sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    name = Path(file.file).name
    with _alone(lock, lambda: progress(f"{name} (fetched by another program)", _partial(file), file.size)):
        if not _blob(file).is_file():
            with hub.client() as http:
                download.download(
                    http,
                    remote.located(file.repo, file.file),
                    _blob(file),
                    name=name,
                    size=file.size,
                    sha256=file.sha256,
                    progress=progress,
                )
    _link(file)


@contextlib.contextmanager
def _alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock for the block; `waiting` is called while somebody else does."""
    from filelock import FileLock, Timeout  # noqa: PLC0415

    held = FileLock(lock)
    while True:
        try:
            held.acquire(timeout=WAIT_S)
        except Timeout:
            waiting()
        else:
            break
    try:
        yield
    finally:
        held.release()


def _link(file: File) -> None:
    """Let huggingface_hub enter the file into its cache under its name."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    places: dict[str, Any] = {"endpoint": remote.hub(), "cache_dir": shelves.hub_cache()}
    try:
        made = Path(hf_hub_download(file.repo, file.file, token=hub.token() or False, **places))
    except Exception as error:
        raise hub.explained(error, file.repo) from error
    if made != file.path and not file.path.exists():
        raise DownloadFailed(f"{file.repo} was changed while {file.file} was fetched", hint="try again")


def at(files: Iterable[File], role: Role) -> Path | None:
    """The file of that role; of a split one, its first part."""
    return next((file.path for file in files if file.role == role), None)


def verified(files: Iterable[File]) -> None:
    """Whether target and drafter belong together, now that both are here; checkpoints are looked at when they start.

    Raises:
        RuntimeFailed: they do not.
    """
    found = tuple(files)
    target = at(found, "target")
    if target is not None and target.suffix.lower() == ".gguf":
        gguf.pair(target, at(found, "drafter"))
