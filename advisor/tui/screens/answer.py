"""Step 1: this machine, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Button, Label

from advisor.errors import AdvisorError
from advisor.machine import Machine
from advisor.report import RecommendationPart
from advisor.terminal import MOST_TRADES
from advisor.tui import words
from advisor.tui.background import background
from advisor.tui.state import Answer, Choice
from advisor.tui.step import Step
from advisor.tui.widgets.facts import Fact, Facts, listed
from advisor.tui.widgets.machine_panel import MachinePanel
from advisor.tui.widgets.memory_bar import MemoryBar
from advisor.tui.widgets.speed_bar import Pace, SpeedBar

if TYPE_CHECKING:
    from advisor.sessions import Session


class AnswerStep(Step):
    """What this machine is, which Gemma 4 suits it, and why."""

    STEP = "answer"
    AUTO_FOCUS = "#run"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "forward", "Run it", tooltip="To the summary: files, disk, licence, command"),
        Binding("r", "look", "Look again", show=False, tooltip="Detect the machine once more"),
    ]
    HELP = """
The answer for this machine: one Gemma 4, why this one, the memory that it takes and its speed. **Enter** goes on to the
summary; nothing is fetched or started before that is confirmed.
"""

    def body(self) -> ComposeResult:
        with Vertical(id="machine", classes="section"):
            yield Label("This machine", classes="title", id="origin")
            yield MachinePanel()
            yield Facts(id="sessions")
        with Vertical(id="answer", classes="section"):
            yield Label("Looking at this machine …", classes="headline", id="headline", markup=False)
            yield Label("", id="subtitle", classes="muted", markup=False)
            yield SpeedBar()
            yield Facts(id="quality")
            yield MemoryBar()
            yield Facts(id="why")

    def actions(self) -> ComposeResult:
        yield Button("Run it", id="run", variant="primary", compact=True, action="app.go('summary')", disabled=True)
        yield Button("Tune", compact=True, action="app.go('tune')")
        yield Button("Backend", compact=True, action="app.go('backend')")
        yield Button("Machine", compact=True, action="app.machine")

    def on_mount(self) -> None:
        super().on_mount()
        self.look_for_sessions()

    def on_screen_resume(self) -> None:
        self.look_for_sessions()

    def action_look(self) -> None:
        """Detect the machine once more."""
        self.wizard.look()
        self.look_for_sessions()

    def look_for_sessions(self) -> None:
        """What runs already is shown as soon as it is known."""
        background(self, self.wizard.services.sessions, self.show_sessions, group="sessions")

    def show_sessions(self, found: Sequence[Session]) -> None:
        running = [f"{one.model} on {one.backend}, {one.base_url or one.status}" for one in found]
        self.query_one("#sessions", Facts).facts = tuple(listed("Running", running))

    def show(self, answer: Answer) -> None:
        pick = answer.pick
        self.show_machine(answer.ranking.machine, answer.choice)
        self.query_one("#headline", Label).update(pick.name)
        self.query_one("#subtitle", Label).update(f"{words.subtitle(pick)}\n{words.purpose(answer.document)}")
        self.query_one(SpeedBar).paces = paces(pick)
        quality = f"{pick.quality.score:.0f} of 100 for {answer.document.request.use_case}"
        self.query_one("#quality", Facts).facts = (("", words.reading(pick)), ("Quality", quality))
        self.query_one(MemoryBar).rooms = tuple(words.rooms(answer))
        self.query_one("#why", Facts).facts = tuple(reasons(answer))
        self.query_one("#run", Button).disabled = False
        self.line = answer.choice.line

    def show_machine(self, machine: Machine, choice: Choice) -> None:
        origin = (f"  {words.origin(machine, choice)}", "not bold $foreground-muted")
        self.query_one("#origin", Label).update(Content.assemble("This machine", origin))
        panel = self.query_one(MachinePanel)
        panel.holds, panel.processor = tuple(words.holds(machine)), words.processor(machine)

    def show_trouble(self, error: AdvisorError) -> None:
        if self.wizard.machine is not None:
            self.show_machine(self.wizard.machine, self.wizard.choice)
        self.line = self.wizard.choice.line
        self.query_one("#headline", Label).update("No answer")
        self.query_one("#subtitle", Label).update("")
        self.query_one(SpeedBar).paces = ()
        self.query_one("#quality", Facts).facts = ()
        self.query_one(MemoryBar).rooms = ()
        facts = [("Because", error.message), ("What helps", error.hint), ("", error.command)]
        self.query_one("#why", Facts).facts = tuple((label, text) for label, text in facts if text)
        self.query_one("#run", Button).disabled = True


def paces(pick: RecommendationPart) -> tuple[Pace, ...]:
    """Decoding with the drafter, where there is one, and without."""
    speed = pick.speed
    plain = Pace(
        "Without drafter" if pick.drafter.enabled else "Speed",
        speed.plain_low,
        speed.plain_tokens_per_s,
        speed.plain_high,
    )
    if not pick.drafter.enabled:
        return (plain,)
    return (Pace("With drafter", speed.low, speed.decode_tokens_per_s, speed.high), plain)


def reasons(answer: Answer) -> list[Fact]:
    """Why this one, what was weighed, what to mind, and the next step up."""
    pick, document = answer.pick, answer.document
    step = document.next_step
    return [
        *listed("Why", pick.reasons),
        ("Drafter", pick.drafter.reason),
        *listed("Mind", pick.warnings),
        *listed("Trade", document.trades[:MOST_TRADES]),
        *([("Next step", step.reason)] if step else []),
    ]
