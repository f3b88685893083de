"""The memory bar: what each memory holds, part by part, and what is left.

Each part has a glyph of its own beside its colour, and its size in words.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.reactive import reactive

from advisor.memory.placement import in_words
from advisor.pages.terminal import lengths
from advisor.tui.widgets.drawn import LABEL, Drawn
from advisor.tui.words import Room, of_total

COLOURS = {
    "weights": "$primary",
    "KV cache": "$accent",
    "compute": "$secondary",
    "projector": "$warning",
    "drafter": "$success",
    "free": "$foreground-disabled",
}


class MemoryBar(Drawn):
    """One bar for each memory, with its legend below."""

    HELP = """
The memory that the model takes, as the runtime allocates it: **weights**, the **KV cache** of the whole context,
**compute** buffers, the **drafter** with its own, and the **projector** for images and audio. What is **free** may be
used; margins for the system are already taken off.

Layers, lookup tables or experts that are not on the GPU are in *main memory*.
"""

    rooms: reactive[tuple[Room, ...]] = reactive((), layout=True)

    def draw(self, width: int) -> Content:
        lines = [line for room in self.rooms for line in drawn(room, width)]
        return Content("\n").join(lines) if lines else Content("")


def drawn(room: Room, width: int) -> list[Content]:
    """One memory: its name, its bar and how full it is; then what the glyphs mean."""
    figures = of_total(room.used, room.total)
    space = max(8, width - LABEL - len(figures) - 2)
    parts = [*room.parts, ("free", room.free)]
    bar = Content.assemble(
        *(
            (glyph(name) * length, COLOURS[name])
            for (name, _), length in zip(parts, lengths([size for _, size in parts], space), strict=True)
        )
    )
    first = Content.assemble((f"{room.name:<{LABEL}}", "$foreground-muted"), bar, f"  {figures}")
    return [first, *legend(parts, width - LABEL, " " * LABEL)]


def glyph(part: str) -> str:
    """The same as in `advisor estimate`."""
    from advisor.pages.estimate_page import GLYPHS  # noqa: PLC0415 - with what reads files; the first picture has no bar

    return GLYPHS[part][0]


def legend(parts: Sequence[tuple[str, int]], width: int, indent: str) -> list[Content]:
    """The parts in words; lines break between them only."""
    lines: list[list[Content]] = [[]]
    used = 0
    for name, size in parts:
        entry = Content.assemble((glyph(name), COLOURS[name]), f" {name} {in_words(size)}")
        if used and used + entry.cell_length > width:
            lines.append([])
            used = 0
        lines[-1].append(entry)
        used += entry.cell_length + 2
    return [Content.assemble(indent, Content("  ").join(line)) for line in lines]
