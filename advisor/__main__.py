"""`python -m advisor` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from advisor.cli import run  # noqa: PLC0415 - so that an import error of the command line is shown by it

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
