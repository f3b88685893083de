"""What a change has done: the pick now, and the one before it, figure by figure."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive

from advisor.errors import AdvisorError
from advisor.memory.placement import in_words
from advisor.pages.report import RecommendationPart
from advisor.pages.terminal import rate
from advisor.tui.state import Answer
from advisor.tui.widgets.drawn import Drawn
from advisor.tui.widgets.facts import wrapped

LABEL = 12


class Effect(Drawn):
    """Two lines: now, and before."""

    HELP = "The pick now, and the one before the last change."

    now: reactive[Answer | None] = reactive(None, layout=True)
    before: reactive[Answer | None] = reactive(None, layout=True)
    trouble: reactive[str] = reactive("", layout=True)

    def show(self, answer: Answer) -> None:
        """A new answer; the one until now becomes the one before."""
        self.trouble = ""
        if self.now is not None and self.now.choice != answer.choice:
            self.before = self.now
        self.now = answer

    def show_trouble(self, error: AdvisorError) -> None:
        """That there is no answer, and why."""
        self.trouble = f"{error.message}. {error.hint}"

    def draw(self, width: int) -> Content:
        if self.trouble:
            return Content("\n").join(wrapped("No answer", self.trouble, width))
        if self.now is None:
            return Content("")
        before = self.before or self.now
        return Content("\n").join(
            [figures("Now", self.now.pick, width, "bold"), figures("Before", before.pick, width, "$foreground-muted")]
        )


def figures(label: str, pick: RecommendationPart, width: int, style: str) -> Content:
    """One pick in a line; the file gives way where there is little room."""
    name = pick.name.removeprefix("Gemma 4 ")
    speed = f"{rate(pick.speed.decode_tokens_per_s)} tok/s"
    words = f"{speed:>11}  {in_words(pick.memory.total_bytes):>9}  quality {pick.quality.score:.0f}"
    space = width - LABEL - len(words) - 1
    file = f"{name} {pick.quant}"
    shown = file if len(file) <= space else name
    return Content.assemble((f"{label:<{LABEL}}", "$foreground-muted"), (f"{shown:<{max(0, space)}} {words}", style))
