"""`python -m advisor` and the console script."""

from __future__ import annotations

import sys

from advisor.console import interrupts


def main() -> None:
    """Run the command line and leave with its exit code."""
    argv = sys.argv[1:]
    try:
        interrupts.heed()
        from advisor.cli import run  # noqa: PLC0415 - takes a while; ctrl-c in there is told as later on

        code = run(argv)
        interrupts.ignore()
    except KeyboardInterrupt as raised:
        interrupts.ignore()
        from advisor.cli import shown_error, told  # noqa: PLC0415

        code = told(shown_error(raised), argv)
    sys.exit(code)


if __name__ == "__main__":
    main()
