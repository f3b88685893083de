"""A curve in one line of blocks: how fast it went lately."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], width: int, *, top: float = 0.0) -> str:
    """The last `width` values, the newest on the right.

    Args:
        top: what the highest block stands for, at least.
    """
    shown = list(values)[-width:]
    highest = max([top, *shown], default=0.0)
    if not highest:
        return " " * len(shown)
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(max(0.0, value) / highest * len(BLOCKS)))] for value in shown)
