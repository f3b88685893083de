"""Beside the conversation: how fast it goes, how often the drafter is right, and how full everything is."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.reactive import reactive

from advisor.memory.placement import in_words
from advisor.pages.terminal import rate
from advisor.tui.figures import Figures
from advisor.tui.widgets.chart import BRAILLE, plotted
from advisor.tui.widgets.drawn import Drawn
from advisor.tui.widgets.shares import in_a_line, shares
from advisor.tui.widgets.spark import spark
from advisor.tui.words import of_total

SHORT = 8
HIGH = 3
"""Lines of the curve."""
ROOM = 1.15
"""Above what was fastest."""


class LivePanel(Drawn):
    """A column of figures."""

    HELP = """
What the server counts: **speed** as the answer comes, how often the drafter's first, second, ... guess of a round is
**accepted**, how many it guesses, the **memory** of the process against what was predicted, and how much of the
**context** is used.
"""

    figures: reactive[Figures] = reactive(Figures(), layout=True)

    def draw(self, width: int) -> Content:
        now = self.figures
        lines = [Content.styled(now.name, "bold $primary"), Content("")]
        lines += [title("Speed", f"{rate(now.rate)} tok/s" if now.rate else "", width)]
        lines += curve(now.rates, width, now.expected_rate or 0.0)
        if now.expected_rate:
            lines.append(Content.styled(f"{rate(now.expected_rate)} tok/s predicted", "$foreground-muted"))
        lines += [
            Content(""),
            title("Accepted", f"{now.accepted * 100:.0f}%" if now.accepted is not None else "", width),
        ]
        lines += shares(now.positions, width) or [Content.styled(no_drafts(now), "$foreground-muted")]
        if now.drafting:
            lines.append(Content.styled(f"{now.drafting:.1f} drafted a round at present", "$foreground-muted"))
        lines += [Content(""), title("Memory", in_words(now.memory) if now.memory else "", width)]
        if now.expected_memory:
            lines += [
                gauge(now.memory or 0, now.expected_memory, width),
                Content.styled(predicted(now.memory or 0, now.expected_memory), "$foreground-muted"),
            ]
        lines += [Content(""), title("Context", f"{now.context:,} of {now.context_size:,}", width)]
        lines.append(gauge(now.context, now.context_size, width))
        if now.trouble:
            lines += [Content(""), *Content(now.trouble).stylize("$text-error").wrap(width)]
        low = self.screen.has_class("-low")
        return Content("\n").join([line for line in lines if line or not low])


def curve(rates: Sequence[float], width: int, expected: float) -> list[Content]:
    """The speed lately, over time, from zero up."""
    shown = list(rates)[-2 * width :]
    top = ROOM * max([expected, *shown], default=0.0) or 1.0
    cells = plotted(tuple(enumerate(shown)), 2 * width - 1, top, width, HIGH, dotted=False)
    return [Content.styled("".join(chr(BRAILLE + cell) if cell else " " for cell in row), "$success") for row in cells]


def no_drafts(now: Figures) -> str:
    return "the drafter rests" if now.drafting == 0 or now.drafts == "none" else "nothing drafted yet"


def predicted(used: int, expected: int) -> str:
    """Of a tiny model, most of the process is the program itself, which no prediction is about."""
    return f"{in_words(expected)} predicted" + (" for the model" if used > expected else "")


def held(used: int, expected: int | None) -> str:
    """`14.1 of 14.6 GiB`; what is no part of the prediction alone."""
    return of_total(used, expected) if expected and used <= expected else in_words(used)


def title(name: str, figure: str, width: int) -> Content:
    """A name on the left, its figure on the right."""
    space = max(1, width - len(name) - len(figure))
    return Content.assemble((name, "$foreground-muted"), " " * space, (figure, "bold"))


def gauge(used: int, size: int, width: int) -> Content:
    """How much of it."""
    full = min(width, round(width * used / size)) if size else 0
    full = max(1, full) if used else 0
    return Content.assemble(("━" * full, "$primary"), ("─" * (width - full), "$foreground-disabled"))


class LiveLine(Drawn):
    """The same in one line, for narrow terminals."""

    HELP = LivePanel.HELP

    figures: reactive[Figures] = reactive(Figures(), layout=True)

    def draw(self, width: int) -> Content:
        now = self.figures
        if now.trouble:
            return Content.styled(now.trouble, "$text-error").truncate(width, ellipsis=True)
        parts = [
            Content.assemble(
                (spark(now.rates, SHORT, top=ROOM * max(now.rates, default=0.0)), "$success"),
                (f" {rate(now.rate)} tok/s", "bold"),
            )
            if now.rate
            else Content.styled("no answer yet", "$foreground-muted"),
            Content(f"accepted {in_a_line(now.positions[:3])}") if now.positions else Content(""),
            Content(held(now.memory, now.expected_memory)) if now.memory else Content(""),
            Content(f"{now.context:,} of {now.context_size:,}"),
        ]
        return Content("  ").join([part for part in parts if part]).truncate(width, ellipsis=True)
