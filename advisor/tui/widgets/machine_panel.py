"""The machine: its memories with what others hold of them, and its processor."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive

from advisor.tui.widgets.drawn import LABEL, Drawn
from advisor.tui.words import Hold, of_total

MOST_LABEL = 26
BAR = 20


class MachinePanel(Drawn):
    """One line for each memory, one for the processor."""

    HELP = """
What was found here. The bars show what other programs hold of each memory now.

Is something wrong? `m` corrects it, or takes another machine: a GPU that was not seen, less memory than there is, or a
machine that you do not have yet.
"""

    holds: reactive[tuple[Hold, ...]] = reactive((), layout=True)
    processor: reactive[str] = reactive("", layout=True)

    def draw(self, width: int) -> Content:
        label = min(MOST_LABEL, max((len(hold.name) for hold in self.holds), default=0), width // 3)
        label = max(label + 2, LABEL)
        lines = [line(hold, label, width) for hold in self.holds]
        lines.append(cut(Content.assemble((f"{'Processor':<{label}}", "$foreground-muted"), self.processor), width))
        return Content("\n").join(lines)


def line(hold: Hold, label: int, width: int) -> Content:
    """`GeForce RTX 4090  ▇▇▇▁▁▁  0.5 of 24.0 GiB in use, 1,008 GB/s`."""
    space = max(6, min(BAR, width // 5))
    full = round(space * hold.held / hold.total) if hold.total else 0
    full = max(full, 1) if hold.held else full
    name = hold.name if len(hold.name) <= label - 2 else hold.name[: label - 3] + "…"
    said = f"  {of_total(hold.held, hold.total)} in use" + (f", {hold.note}" if hold.note else "")
    return cut(
        Content.assemble(
            (f"{name:<{label}}", "$foreground-muted"),
            ("━" * full, "$warning"),
            ("─" * (space - full), "$success"),
            said,
        ),
        width,
    )


def cut(text: Content, width: int) -> Content:
    """One line of at most so many cells, with a mark where it was longer."""
    return text.truncate(width, ellipsis=True)
