"""What the log of a Python server says of its end: the root line among many, and what to do about it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from advisor.errors import OutOfMemory, RuntimeFailed
from backends import logs

SHORT = re.compile(
    r"out of memory|No available memory for the cache|larger than the (?:available|maximum number of tokens).*KV cache"
    r"|is less than (?:desired .PU memory utilization|requested memory for kv)"
    r"|Not enough memory|Insufficient Memory|bad_alloc|(?:Cannot|can't|Unable to) allocate"
    r"|greater than the maximum allowed buffer size",
    re.IGNORECASE,
)
TAKEN = re.compile(r"address already in use|error while attempting to bind", re.IGNORECASE)
OPTION = re.compile(r"(?:error: )?(unrecognized arguments: .+|No such option: .+|invalid choice: .+)")
MISSING = re.compile(r"Invalid repository ID|Repo id must be|is not a valid model identifier")
WIDTH = re.compile(r"must match the existing size|must have same reduction dim|mat1 and mat2 shapes cannot")
DRAFT = re.compile(r"should belong to the same kv cache group|num_speculative_tokens must be|EAGLE3 is not supported")
ILLEGAL = re.compile(r"died unexpectedly \(exit code: -4\)")
CALM = re.compile(r"^.*\b(?:DEBUG|INFO|WARNING)\b.*\n?", re.MULTILINE)
NAMED = (
    re.compile(r"Worker failed with error '(?P<said>.+?)'(?:,|$)", re.MULTILINE),
    re.compile(r"(?P<said>Worker proc \S+ died unexpectedly.*)"),
    re.compile(r"^\s*Value error, (?P<said>.+?)(?: \[type=|$)", re.MULTILINE),
    re.compile(r"^.*?(?P<said>(?:[A-Za-z_.]*(?:Error|Exception)):\s+\S.*)$", re.MULTILINE),
)
"""Where the root is, the most telling first; later lines repeat it less exactly."""


def line(text: str) -> str:
    """The root line, else the last one that says anything. Warnings name errors that did not happen."""
    text = CALM.sub("", text)
    for pattern in NAMED:
        if found := pattern.search(text):
            return " ".join(found["said"].split())  # some begin on the line after their name
    return next(reversed(logs.lines(text)), "")


def explain(name: str, log: Path, code: int | None, *, draft: bool) -> RuntimeFailed:
    """Why a server ended.

    Args:
        name: of the runtime.
        code: its exit code, None where the server runs on without its engine.
        draft: whether it was given a drafter.
    """
    text = logs.tail(log)
    said, kept = line(text), f"its log is {log}"
    if ILLEGAL.search(text) or code == -getattr(signal, "SIGILL", 4):
        return RuntimeFailed(
            f"{name} met an instruction that this processor does not have (SIGILL)",
            hint="the drafter is not to blame; `-- --dtype float32` avoids it on processors",
        )
    less = f"a shorter --context{' or --no-drafter' if draft else ''} needs less"
    if SHORT.search(text):
        return OutOfMemory(f"{name} is out of memory: {said}", hint=less)
    if found := OPTION.search(text):
        return RuntimeFailed(f"{name} refuses an option: {found[1]}", hint=f"update it; {kept}")
    other = "use the assistant of the same size, or launch with --no-drafter" if draft else "fetch the checkpoint anew"
    for pattern, what, hint in (
        (TAKEN, f"{name}: the port is used by another program", "give another one with --port"),
        (WIDTH, f"{name}: target and drafter have different shapes: {said}", other),
        (DRAFT, f"{name} cannot use this drafter: {said}", other),
        (MISSING, f"{name} does not find the checkpoint: {said}", kept),
    ):
        if pattern.search(text):
            return RuntimeFailed(what, hint=hint)
    if code == -getattr(signal, "SIGKILL", 9):
        return RuntimeFailed(
            f"{name} was killed (SIGKILL): by someone, or by the system for want of memory",
            hint=f"if it was memory: {less}; {kept}",
        )
    return RuntimeFailed(_ended(name, code) + (f": {said}" if said else ""), hint=kept)


def _ended(name: str, code: int | None) -> str:
    if code is None:
        return f"{name} runs on without its engine"
    if code == 0:
        # Nobody asked it to end: a crash of the engine ends some servers as if all was well.
        return f"{name} ended by itself, with code 0 although it failed"
    if code > 0:
        return f"{name} ended with code {code}"
    return f"{name} was ended by {logs.ended_by(code)}"
