"""How often each guess of the drafter is right: the first of a round, the second, and so on."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

MOST = 6
"""Positions that are shown; further ones are seldom drafted."""
FIGURE = 8
SHORTEST, LONGEST, GAP = 4, 24, 2
"""Columns of a bar in a line of several, of one with its figure at most, and between two."""


def shares(positions: Sequence[float], width: int) -> list[Content]:
    """One line each: `1 ━━━━━━━━━━━━━─── 81%`."""
    space = max(4, width - FIGURE)
    lines = []
    for place, share in enumerate(positions[:MOST], start=1):
        full = round(space * min(1.0, share))
        lines.append(
            Content.assemble(
                (f"{place} ", "$foreground-muted"),
                ("━" * full, "$success"),
                ("─" * (space - full), "$foreground-disabled"),
                f"{share * 100:>5.0f}%",
            )
        )
    return lines


def side_by_side(positions: Sequence[float], width: int) -> Content:
    """In one line, as many as there is room for: `1 ━━━━─ 81%   2 ━━━── 64%`."""
    shown = positions[: min(MOST, width // (SHORTEST + FIGURE + GAP))]
    if not shown:
        return Content("")
    space = min(LONGEST, width // len(shown) - GAP)
    return Content(" " * GAP).join(shares(shown, space))


def in_a_line(positions: Sequence[float]) -> str:
    """`81 64 42 %`."""
    return " ".join(f"{share * 100:.0f}" for share in positions[:MOST]) + "%" if positions else ""
