"""Everything that the user is told went wrong.

One base class means "shown to the user": a message (what happened), a hint (the next step in words) and a command (the
next step to type). Its subclasses fix the exit code and the machine-readable code; both are part of the contract.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST_NAMES = 12


class AdvisorError(Exception):
    """Base of every error that reaches the user.

    Args:
        message: what went wrong, naming the file, key or option concerned.
        hint: what to do about it, a sentence; empty when there is nothing to say.
        command: a command line that is the next step; empty when there is none.
    """

    code = "error"
    exit_code = 6

    def __init__(self, message: str, *, hint: str = "", command: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.command = command

    def as_json(self) -> dict[str, dict[str, str]]:
        """The error document of the contract: `{"error": {"code", "message", "hint", "command"}}`."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, "command": self.command}}


class UsageError(AdvisorError):
    """A wrong option, name or profile: nothing was started."""

    code = "usage"
    exit_code = 2


class ProfileError(UsageError):
    """A file of `profiles/` (or given by the user) that does not say what it must."""

    code = "profile"


class NothingFits(AdvisorError):
    """No candidate satisfies the request on this machine."""

    code = "nothing_fits"
    exit_code = 3


class NoBackend(AdvisorError):
    """No backend can do what was asked here."""

    code = "no_backend"
    exit_code = 4


class DownloadFailed(AdvisorError):
    """A file could not be fetched, or arrived wrong."""

    code = "download"
    exit_code = 5


class RuntimeFailed(AdvisorError):
    """A model file or a runtime failed."""

    code = "runtime"
    exit_code = 6


class OutOfMemory(RuntimeFailed):
    """A runtime did not get the memory that it asked for.

    Args:
        size: bytes of what was refused, 0 where it does not tell.
        on_gpu: whether it was a GPU's memory.
    """

    def __init__(self, message: str, *, hint: str = "", command: str = "", size: int = 0, on_gpu: bool = False) -> None:
        super().__init__(message, hint=hint, command=command)
        self.size = size
        self.on_gpu = on_gpu


class Interrupted(AdvisorError):
    """The user pressed ctrl-c."""

    code = "interrupted"
    exit_code = 130


def unknown_name(kind: str, name: str, valid: Iterable[str], *, command: str = "") -> UsageError:
    """The error for a name that is not in a list: says which valid names are nearest.

    Args:
        kind: what the name should have been, such as "model" or "use case".
        name: what was given.
        valid: every valid name.
    """
    names = sorted(valid)
    lowered = {candidate.lower(): candidate for candidate in names}
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
    shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    hint = f"did you mean {either(near)}?" if near else f"known: {shown}"
    return UsageError(f"unknown {kind} {name!r}", hint=hint, command=command)


def either(names: Sequence[str]) -> str:
    """Names to choose from, in words: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def wrong_key(where: str, key: str, problem: str) -> ProfileError:
    """The error for one key of one file."""
    return ProfileError(f"{where}: {key}: {problem}" if key else f"{where}: {problem}")
