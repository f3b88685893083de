"""Standard input, output and error as they are found: closed by whoever started this, with no reader left, on a full
disk."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

ANSWERED = "advisor.answered"
"""In the `meta` of click's context: the one JSON document has been printed, and what happens now is told in words."""


def present() -> None:
    """A stream that was closed (`>&-`) is None in Python: what is written there goes nowhere, and nothing is to be
    read."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


def leave() -> None:
    """Write to standard output no more, nor what is still held back: the interpreter would complain of it at its
    end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
