"""One recommendation: its name, speed, quality and memory, why, and what to mind."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Label

from advisor.errors import AdvisorError
from advisor.pages.report import RecommendationPart
from advisor.pages.terminal import MOST_TRADES
from advisor.tui import words
from advisor.tui.state import Answer
from advisor.tui.widgets.facts import Fact, Facts, listed
from advisor.tui.widgets.memory_bar import MemoryBar
from advisor.tui.widgets.speed_bar import Pace, SpeedBar


class PickPanel(Vertical):
    """The pick of an answer, or why there is none."""

    DEFAULT_CSS = "PickPanel { height: auto; }"

    def compose(self) -> ComposeResult:
        yield Label("Looking at this machine …", id="headline", markup=False)
        yield Label("", id="subtitle", markup=False)
        yield Facts(id="why")
        yield SpeedBar()
        yield Facts(id="quality")
        yield MemoryBar()
        yield Facts(id="notes")

    def show(self, answer: Answer) -> None:
        """Show the pick."""
        pick = answer.pick
        self.query_one("#headline", Label).update(pick.name)
        self.query_one("#subtitle", Label).update(f"{words.subtitle(pick)}\n{words.purpose(answer.document)}")
        self.query_one(SpeedBar).paces = paces(pick)
        quality = f"{pick.quality.score:.0f} of 100 for {answer.document.request.use_case}"
        self.query_one("#quality", Facts).facts = (("", words.reading(pick)), ("Quality", quality))
        self.query_one(MemoryBar).rooms = tuple(words.rooms(answer))
        self.query_one("#why", Facts).facts = tuple(listed("Why", pick.reasons))
        self.query_one("#notes", Facts).facts = tuple(notes(answer))

    def show_trouble(self, error: AdvisorError, otherwise: str = "") -> None:
        """Show why there is none, what helps, and what else there is."""
        facts = [("Because", error.message), ("What helps", error.hint), ("", error.command), ("", otherwise)]
        self.say("No answer", facts)

    def say(self, headline: str, facts: list[Fact]) -> None:
        """A headline and facts, and nothing else."""
        self.query_one("#headline", Label).update(headline)
        self.query_one("#subtitle", Label).update("")
        self.query_one(SpeedBar).paces = ()
        self.query_one("#quality", Facts).facts = ()
        self.query_one(MemoryBar).rooms = ()
        self.query_one("#notes", Facts).facts = ()
        self.query_one("#why", Facts).facts = tuple((label, text) for label, text in facts if text)


def paces(pick: RecommendationPart) -> tuple[Pace, ...]:
    """Decoding with the drafter, where there is one, and without."""
    speed = pick.speed
    name = "Without drafter" if pick.drafter.enabled else "Speed"
    plain = Pace(name, speed.plain_low, speed.plain_tokens_per_s, speed.plain_high)
    if not pick.drafter.enabled:
        return (plain,)
    return (Pace("With drafter", speed.low, speed.decode_tokens_per_s, speed.high), plain)


def notes(answer: Answer) -> list[Fact]:
    """What was weighed, what to mind, and the next step up."""
    pick, document = answer.pick, answer.document
    step = document.next_step
    return [
        ("Drafter", pick.drafter.reason),
        *listed("Note", pick.warnings),
        *listed("Trade", document.trades[:MOST_TRADES]),
        *([("Next step", step.reason)] if step else []),
    ]
