"""The server's log: the only place where acceptance is told, and the only one where memory is told rightly.

`llama-server` writes into it once per request, and nothing there names the request: so one request at a time is matched
by order, and two at once are not told apart.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from advisor.machine import Record
from backends.ollama.address import Address

VARIABLE = "ADVISOR_OLLAMA_LOG"
"""Names the log, where it is kept elsewhere (a container, a service of one's own)."""
OWN = "ollama-serve"
"""The log of a server that advisor started, among the logs of sessions."""
TAIL = 8 << 20
JOURNAL_S = 10.0
LINES = 20_000
SETTLE_S, POLL_S = 1.0, 0.02
"""The log may be a little behind the answer."""

STARTED = re.compile(r'msg="starting llama-server" cmd="(?P<command>[^\n]*)"')
DRAFTED = re.compile(r"draft acceptance = [\d.]+ \(\s*(\d+) accepted /\s*(\d+) generated\)")
POSITIONS = re.compile(r"acc per pos = \(([\d., ]+)\)")
SUMS = re.compile(r"statistics +draft-\w+: .*acc rate/pos = \(([\d., ]+)\)")
ANSWERED = re.compile(r"\|\s+eval time =\s+([\d.]+) ms /\s+(\d+) tokens")
BUFFER = re.compile(r"^\s*(\w+):\s+(\S+) +(model|KV|compute|output|RS) buffer size =\s+([\d.]+) MiB", re.MULTILINE)
DRAFTER_LOADS = re.compile(r"loading draft model")
MIB = 1 << 20


class Mark(Record, frozen=True, kw_only=True):
    """A place in the log: bytes into a file, or a time (seconds since 1970) in the journal."""

    size: int = 0
    when: float = 0.0


class Counted(Record, frozen=True, kw_only=True):
    """What the children said of finished requests. `answers`: how many; `ms`: spent on `tokens`. `positions`: the share
    of each place in a draft that was accepted, of the one answer, or since the child was started."""

    answers: int
    tokens: int
    ms: float
    rounds_told: int
    drafted: int
    accepted: int
    positions: tuple[float, ...]


class Log:
    """A log that can be read. `path` None: the system's journal."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def mark(self) -> Mark:
        """The place where it ends now."""
        try:
            return Mark(size=self.path.stat().st_size if self.path else 0, when=time.time())
        except OSError:
            return Mark(when=time.time())

    def since(self, mark: Mark) -> str:
        """What was written after that place; empty where nothing was, or it can no longer be read."""
        if self.path is None:
            return _journal(f"--since=@{mark.when:.6f}")
        return _read(self.path, mark.size)

    def tail(self) -> str:
        """Its end."""
        if self.path is None:
            return _journal(f"--lines={LINES}")
        try:
            return _read(self.path, max(0, self.path.stat().st_size - TAIL))
        except OSError:
            return ""

    def settled(self, mark: Mark) -> str:
        """What was written after that place, once a request's last line is there or it has had its time."""
        until = time.monotonic() + SETTLE_S
        while True:
            text = self.since(mark)
            if ANSWERED.search(text) or time.monotonic() > until:
                # The line about drafts comes after the one about speed.
                time.sleep(POLL_S)
                return self.since(mark)
            time.sleep(POLL_S)


def _read(path: Path, begin: int) -> str:
    try:
        with path.open("rb") as file:
            # A log that has become shorter was begun anew.
            file.seek(begin if begin <= path.stat().st_size else 0)
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _journal(which: str) -> str:
    argv = ["journalctl", "--unit=ollama", "--output=cat", "--no-pager", "--quiet", which]
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=JOURNAL_S, check=False, stdin=subprocess.DEVNULL,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def find(where: Address) -> Log | None:
    """The log of that server; None where it is on another machine, or may not be read."""
    if not where.local:
        return None
    if given := os.environ.get(VARIABLE):
        return Log(Path(given)) if os.access(given, os.R_OK) else None
    files = [path for path in places() if os.access(path, os.R_OK) and path.is_file()]
    if files:
        return Log(max(files, key=lambda path: path.stat().st_mtime))
    journal = Log(None)
    return journal if sys.platform == "linux" and _journal("--lines=1") else None


def places() -> list[Path]:
    """Where Ollama's documentation says that it writes, and where advisor lets it write."""
    from advisor.running import sessions  # noqa: PLC0415

    home = Path.home()
    if sys.platform == "win32":
        usual = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "Ollama" / "server.log"
    else:
        usual = home / ".ollama" / "logs" / "server.log"
    return [usual, sessions.log_of(OWN)]


# ---- What it says


def counted(text: str) -> Counted:
    """What children said of the requests that ended in this piece of the log."""
    answers = [(float(ms), int(tokens)) for ms, tokens in ANSWERED.findall(text)]
    drafts = [(int(accepted), int(drafted)) for accepted, drafted in DRAFTED.findall(text)]
    positions = SUMS.findall(text) if len(drafts) > 1 else POSITIONS.findall(text)
    return Counted(
        answers=len(answers),
        tokens=sum(tokens for _, tokens in answers),
        ms=sum(ms for ms, _ in answers),
        rounds_told=len(drafts),
        drafted=sum(drafted for _, drafted in drafts),
        accepted=sum(accepted for accepted, _ in drafts),
        positions=tuple(float(share) for share in positions[-1].split(",")) if positions else (),
    )


def last_run(text: str, target: str) -> str | None:
    """What was written since a child was last started with that target; None where none was, or where another one was
    started since: nothing tells their lines apart.

    Args:
        target: digest of its weights.
    """
    starts = list(STARTED.finditer(text))
    if not starts or target.replace(":", "-") not in starts[-1]["command"].partition("--spec-")[0]:
        return None
    return text[starts[-1].start() :]


def memory_bytes(run: str) -> int | None:
    """What the child of such a run allocated, all its buffers on all devices. Buffers for computing are made anew now
    and then: of each, the last counts."""
    loads = DRAFTER_LOADS.search(run)
    total, compute = 0.0, dict[tuple[bool, str], float]()
    for match in BUFFER.finditer(run):
        _, device, kind, size = match.groups()
        if kind == "compute":
            compute[(bool(loads and match.start() > loads.start()), device)] = float(size)
        else:
            total += float(size)
    total += sum(compute.values())
    return int(total * MIB) or None
