"""Becomes a program once standard input says so: `python held.py PROGRAM ARGUMENT...`.

Whoever starts it can put the process on record before it does anything. Whoever dies before that closes standard input,
and nothing was started. Imports nothing but the standard library.
"""

from __future__ import annotations

import os
import sys

NOT_STARTED = 127


def main() -> None:
    if not os.read(0, 1):
        sys.exit(NOT_STARTED)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - an argv, no shell
    except OSError as error:
        print(f"error: {sys.argv[1]} cannot be started: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main()
