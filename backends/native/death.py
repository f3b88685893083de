"""Why the engine's process died: in words, from its exit code and the end of its log."""

from __future__ import annotations

from pathlib import Path

from advisor.errors import RuntimeFailed
from backends import logs

REBUILD = "env -u CMAKE_ARGS make clean setup"
LESS = "a smaller model or a shorter context needs less"
SHORTAGE = (
    "bad_alloc",
    "MemoryError",
    "annot allocate memory",
    "failed to allocate",
    "out of memory",
    "unable to mmap",
)
"""How programs put it in a log."""


def cause(code: int, log: Path, *, hung: bool = False) -> RuntimeFailed:
    """The error for a process that has ended.

    Args:
        code: as `subprocess` has it: negative for a signal.
        log: its standard error.
        hung: whether it was ended because it gave no sign of life.
    """
    said = "; ".join(last_lines(log))
    where = f"its log is {log}" if said else ""
    if hung:
        return RuntimeFailed("the engine hung: it gave no sign of life, and was ended", hint=where)
    if any(word in said for word in SHORTAGE):
        return RuntimeFailed(f"the engine found no more memory: {said}", hint=LESS)
    if code >= 0:
        return RuntimeFailed(ending(f"the engine ended with code {code}", said), hint=where)
    return _by_signal(code, said, where)


def _by_signal(code: int, said: str, where: str) -> RuntimeFailed:
    name = logs.ended_by(code)
    match name:
        case "SIGILL":
            return RuntimeFailed(
                "the engine met an instruction that this processor does not have (SIGILL): it is built for another",
                hint="build it portably, without CMAKE_ARGS of your own",
                command=REBUILD,
            )
        case "SIGKILL":
            return RuntimeFailed(
                "the engine was killed (SIGKILL): by someone, or by the system for want of memory",
                hint=f"if it was memory: {LESS}",
            )
        case "SIGABRT":
            return RuntimeFailed(ending("llama.cpp gave up (SIGABRT)", said), hint=where)
        case "SIGSEGV":
            return RuntimeFailed(
                ending("the engine crashed (SIGSEGV): llama.cpp, or a driver that it uses", said),
                hint="; ".join(
                    filter(None, ("where a GPU is used, --gpu-layers 0 does without; else build it again", where))
                ),
                command=REBUILD,
            )
    return RuntimeFailed(ending(f"the engine was ended by {name}", said), hint=where)


def ending(text: str, said: str) -> str:
    return f"{text}: {said}" if said else text


def last_lines(log: Path, most: int = 3) -> list[str]:
    """The lines of the log that say most: the last assertion, else the last few."""
    text = logs.tail(log)
    asserted = logs.asserted(text)
    return [asserted] if asserted else logs.lines(text)[-most:]
