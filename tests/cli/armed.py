"""`python -m advisor`, which says when ctrl-c is its own: what comes before belongs to Python."""

from __future__ import annotations

from advisor import __main__
from advisor.console import interrupts


def heed() -> None:
    before()
    print("armed", flush=True)


if __name__ == "__main__":
    before, interrupts.heed = interrupts.heed, heed
    __main__.main()
