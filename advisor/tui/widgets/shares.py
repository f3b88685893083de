"""How often each guess of the drafter is right: the first of a round, the second, and so on."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

MOST = 6
"""Positions that are shown; further ones are seldom drafted."""
FIGURE = 8


def shares(positions: Sequence[float], width: int) -> list[Content]:
    """One line each: `1 ━━━━━━━━━━━━━─── 81 %`."""
    space = max(4, width - FIGURE)
    lines = []
    for place, share in enumerate(positions[:MOST], start=1):
        full = round(space * min(1.0, share))
        lines.append(
            Content.assemble(
                (f"{place} ", "$foreground-muted"),
                ("━" * full, "$success"),
                ("─" * (space - full), "$foreground-disabled"),
                f"{share * 100:>4.0f} %",
            )
        )
    return lines


def in_a_line(positions: Sequence[float]) -> str:
    """`81 64 42 %`."""
    return " ".join(f"{share * 100:.0f}" for share in positions[:MOST]) + " %" if positions else ""
