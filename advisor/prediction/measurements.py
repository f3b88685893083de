"""What was measured on this machine, remembered: one JSON object a line in one file that only grows.

Each line stands alone. A writer appends whole lines under a lock and takes back what a full disk let it write in part;
a reader takes no lock. Lines that are damaged, or of a newer version, are skipped and stay where they are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from advisor import paths
from advisor.errors import RuntimeFailed
from advisor.machine import Machine, Record

VERSION = 1
LOCK_S = 10.0
LARGEST = 1 << 20
"""Bytes of the file. Beyond, what a newer measurement of the same thing replaces is dropped: reading it must cost
`advisor recommend` next to nothing."""
SAMPLE, SAMPLES = 4096, 16
"""Bytes read of a file, and at how many places, to know it again."""
GIB = 1 << 30

Source = Literal["trial", "launch", "calibration", "imported"]


class FileId(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A file without its path. `mark`: of its contents; empty where it is known from a catalogue only."""

    name: str
    size: int
    mark: str = ""

    def same(self, other: FileId) -> bool:
        """Whether they are the same file, as far as both are known. Names may differ, contents may not."""
        if self.size != other.size:
            return False
        return self.mark == other.mark if self.mark and other.mark else self.name == other.name


class Measurement(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One speed: of these files with this build on this machine, for a kind of work at a depth, with a draft length.

    `draft_tokens`: 0 is plain decoding, -1 a length that the backend adapts. Speeds are tokens per second:
    `tokens_per_s` of decoding, `low` and `high` its interval. `gain`: of the whole answer's time, prompt included,
    against plain decoding. `chosen`: the length that the trial decided for, for this kind. `acceptance`: by position.
    `expected_*`: what the formula said beforehand, without any measurement.
    """

    v: int = VERSION
    source: Source
    date: str
    """RFC 3339, UTC."""
    model: str
    """Of the catalogue, or the file's own name."""
    quant: str = ""
    target: FileId
    drafter: FileId | None = None
    backend: str
    build: str = ""
    """Version and kind of build of the runtime, and its own library's where that tells more."""
    machine: str
    """`fingerprint` of the hardware."""
    drivers: str = ""
    placement: str = ""
    """`gpu`, `cpu`, ... as `placement.Mode`."""
    kv_type: str = "f16"
    context_tokens: int = 0
    depth_tokens: int = 0
    kind: str = ""
    """Of work: `code`, `summary`, ...; empty for all of them together."""
    draft_tokens: int = 0
    tokens_per_s: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    chosen: bool = False
    verdict: Literal["", "keep", "drop", "unclear"] = ""
    """Of the trial, about the drafter: the same for all lengths of a kind."""
    acceptance: tuple[float, ...] = ()
    prefill_tokens_per_s: float | None = None
    first_token_s: float | None = None
    memory_bytes: int | None = None
    bytes_per_s: float | None = None
    """Of a calibration: bandwidth."""
    expected_tokens_per_s: float | None = None
    expected_bytes: int | None = None
    hardware: tuple[str, ...] = ()
    """Names of processor and GPUs, as they are."""

    @property
    def context_class(self) -> str:
        """Depths that are alike: `1K`, `4K`, `16K`, ..."""
        return context_class(self.depth_tokens)

    @property
    def subject(self) -> tuple[object, ...]:
        """What was measured: a newer measurement of the same replaces it."""
        mark = self.target.mark or self.target.name
        draft = (self.drafter.mark or self.drafter.name) if self.drafter else ""
        where = (self.machine, self.backend, self.placement, self.kv_type, self.context_class)
        return (self.source, mark, self.target.size, draft, *where, self.kind, self.draft_tokens)


def context_class(depth_tokens: int) -> str:
    """The class of a depth: the next power of four of 1,024 tokens."""
    size = 1
    while size * 1024 < depth_tokens:
        size *= 4
    return f"{size}K"


# ---- Identities


def now() -> str:
    """The date of a measurement."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def identify(path: Path) -> FileId:
    """A file by its size and samples of its contents, a checkpoint's folder by its files' names and sizes; a
    millisecond, whatever its size.

    Raises:
        RuntimeFailed: it cannot be read.
    """
    import hashlib  # noqa: PLC0415 - OpenSSL takes two milliseconds to load

    if path.is_dir():
        files = sorted((each.name, each.stat().st_size) for each in path.iterdir() if each.is_file())
        mark = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
        return FileId(name=path.name, size=sum(size for _, size in files), mark=mark)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            told = hashlib.sha256(str(size).encode())
            for place in range(SAMPLES):
                file.seek(max(0, size - SAMPLE) * place // (SAMPLES - 1))
                told.update(file.read(SAMPLE))
    except OSError as error:
        raise RuntimeFailed(f"{path}: {error.strerror or error}") from None
    return FileId(name=path.name, size=size, mark=told.hexdigest()[:16])


def fingerprint(machine: Machine) -> str:
    """The hardware: two machines with the same names, cores and memory have the same."""
    import hashlib  # noqa: PLC0415

    parts = [
        machine.os,
        machine.arch,
        machine.cpu.name,
        str(machine.cpu.cores),
        str(round(machine.memory.total_bytes / GIB)),
        *(f"{gpu.name} {round(gpu.memory_total_bytes / GIB)}" for gpu in machine.gpus),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def drivers(machine: Machine) -> str:
    """The drivers of its GPUs."""
    return ", ".join(dict.fromkeys(f"{gpu.vendor} {gpu.driver}" for gpu in machine.gpus if gpu.driver))


def build_of(machine: Machine, backend: str) -> str:
    """The build of a runtime as the machine knows it."""
    found = next((each for each in machine.backends if each.name == backend), None)
    return " ".join(part for part in (found.version, found.build) if part) if found else ""


def hardware(machine: Machine) -> tuple[str, ...]:
    """Names of processor and GPUs."""
    return (machine.cpu.name, *(gpu.name for gpu in machine.gpus))


# ---- The file


def file() -> Path:
    """Where it is kept; it may not exist."""
    return paths.measurements_file()


def recall(machine: str = "") -> tuple[Measurement, ...]:
    """Everything that can be understood, the oldest first.

    Args:
        machine: only what was measured on this hardware.

    A file that cannot be read holds nothing.
    """
    try:
        content = file().read_bytes()
    except (OSError, RuntimeError):
        return ()
    wanted = f'"{machine}"'.encode() if machine else b""
    found = (understood(line) for line in whole_lines(content) if wanted in line)
    return tuple(each for each in found if each and (not machine or each.machine == machine))


def keep(*found: Measurement) -> None:
    """Add measurements; all of them or none are in the file afterwards.

    Raises:
        RuntimeFailed: they cannot be written; the file is as it was.
    """
    if not found:
        return
    lines = b"".join(msgspec.json.encode(each) + b"\n" for each in found)
    with _locked():
        if _append(file(), lines) > LARGEST:
            _replace(file(), _compacted(file().read_bytes()))


def forget(unwanted: Callable[[Measurement], bool] | None = None) -> int:
    """Drop measurements; where nothing is said of which, the whole file, damaged lines included.

    Returns:
        How many were dropped.

    Raises:
        RuntimeFailed: the file cannot be changed.
    """
    with _locked():
        path = file()
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0
        lines = list(whole_lines(content))
        if unwanted is None:
            path.unlink()
            return sum(understood(line) is not None for line in lines)
        left = [line for line in lines if not ((known := understood(line)) and unwanted(known))]
        if len(left) < len(lines):
            _replace(path, b"".join(line + b"\n" for line in left))
        return len(lines) - len(left)


def whole_lines(content: bytes) -> Iterator[bytes]:
    """Lines with something in them; one that nobody ended may be one that is being written, and is read too: it is
    understood only if it is whole."""
    return (line for line in content.split(b"\n") if line)


_decoder = msgspec.json.Decoder(Measurement)


def understood(line: bytes) -> Measurement | None:
    """The measurement of a line; None for one that is damaged or of another version."""
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.v == VERSION else None


def _append(path: Path, lines: bytes) -> int:
    """Add lines; returns the size of the file then."""
    before = -1
    try:
        with path.open("ab+", buffering=0) as out:
            before = out.seek(0, os.SEEK_END)
            if before:
                out.seek(before - 1)
                if out.read(1) != b"\n":  # whoever wrote last died in the middle of it
                    lines = b"\n" + lines
            _whole(out.write(lines), len(lines))
            os.fsync(out.fileno())
            return before + len(lines)
    except OSError as error:
        if before >= 0:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
        raise _failed(path, error) from None


def _whole(written: int | None, wanted: int) -> None:
    if written != wanted:
        raise OSError(f"only {written or 0} of {wanted} bytes could be written: the disk is full")


def _compacted(content: bytes) -> bytes:
    """The newest of each subject, and all that is not understood; the oldest go too where that is still too much."""
    lines = list(whole_lines(content))
    newest = {known.subject: place for place, line in enumerate(lines) if (known := understood(line))}
    left = [
        line
        for place, line in enumerate(lines)
        if (known := understood(line)) is None or newest[known.subject] == place
    ]
    while sum(map(len, left)) > LARGEST // 2 and len(left) > 1:
        left = left[len(left) // 8 + 1 :]
    return b"".join(line + b"\n" for line in left)


def _replace(path: Path, content: bytes) -> None:
    """Another content, or the old one."""
    import tempfile  # noqa: PLC0415 - seldom needed

    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".measurements-")
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        raise _failed(path, error) from None


def _failed(path: Path, error: OSError) -> RuntimeFailed:
    return RuntimeFailed(
        f"measurements cannot be kept in {path}: {error.strerror or error}",
        hint=f"free some space, or set {paths.STATE} to a folder that can be written",
    )


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Alone among all advisors of this user."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - reading needs none

    path = file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_S):
            yield
    except Timeout:
        raise RuntimeFailed(f"another advisor holds {path}", hint="try again in a moment") from None
    except OSError as error:
        raise _failed(path, error) from None


def newest(found: Iterable[Measurement]) -> dict[tuple[object, ...], Measurement]:
    """The newest of each subject; `found`: the oldest first."""
    return {each.subject: each for each in found}
