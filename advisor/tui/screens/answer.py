"""Step 1: this machine, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Button, Label, OptionList

from advisor.errors import AdvisorError
from advisor.machine import Machine
from advisor.tui import words
from advisor.tui.background import background
from advisor.tui.state import Answer, Choice
from advisor.tui.step import BACKEND, MACHINE, TUNE, Step
from advisor.tui.widgets.facts import Facts
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.machine_panel import MachinePanel
from advisor.tui.widgets.pick_panel import PickPanel
from advisor.tui.widgets.session_list import SessionList

if TYPE_CHECKING:
    from advisor.running.sessions import Session


LONG_S = 8.0
"""Detection takes a second; what is asked has its own limits."""
OTHERWISE = "r looks again, m describes a machine, d tries the demo"
CALIBRATE = (("Calibrate", "k measures for a minute what drafting costs here"),)


class Offer(Facts):
    """A line that a click takes."""

    async def on_click(self) -> None:
        await self.run_action("app.calibrate")


class AnswerStep(Step):
    """What this machine is, which Gemma 4 suits it, and why."""

    STEP = "answer"
    AUTO_FOCUS = "#forward"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "app.go('tune')", "Tune", tooltip=TUNE),
        Binding("b", "app.go('backend')", "Backend", tooltip=BACKEND),
        Binding("m", "app.machine", "Machine", tooltip=MACHINE),
        Binding("d", "app.demo", "Demo", show=False, tooltip="A tiny Gemma 4 that is here already, with its drafter"),
        Binding("k", "app.calibrate", "Calibrate", show=False, tooltip="Measure for a minute what drafting costs here"),
        Binding("r", "look", "Look again", show=False, tooltip="Detect the machine once more"),
    ]
    HELP = """
The answer for this machine: one Gemma 4, why this one, the memory that it takes and its speed. **Enter** goes on to the
summary; nothing is fetched or started before that is confirmed.

*With drafter* and *Without drafter* are tokens per second: the dot is the estimate, the line the range in which four of
five measurements on such machines lie. In the memory bars each part has its own pattern; what is *free* may be used,
margins for the system are already taken off.

Is the machine not what it says? `m` corrects it, or takes another one.
"""

    def body(self) -> ComposeResult:
        with Vertical(id="machine", classes="section"):
            yield Label("This machine", classes="title", id="origin")
            yield MachinePanel()
            yield SessionList()
            yield Offer()
        yield PickPanel()

    def actions(self) -> ComposeResult:
        yield Forward("Run it", action="app.go('summary')", disabled=True)
        yield Button("Tune", compact=True, action="app.go('tune')")
        yield Button("Backend", compact=True, action="app.go('backend')")
        yield Button("Machine", compact=True, action="app.machine")
        yield Button("Demo", compact=True, action="app.demo", id="demo")

    def on_mount(self) -> None:
        self.watch(self.app, "calibration_offered", self.offer)
        self.watch(self.app, "sessions", self.list_sessions)
        self.set_timer(LONG_S, self.still_looking)

    def still_looking(self) -> None:
        """Something that was asked does not answer: a driver, or a server."""
        if self.is_open and self.wizard.answer is None and self.wizard.trouble is None:
            facts = [("Because", "it takes unusually long: a driver or a server may hang"), ("What helps", OTHERWISE)]
            self.query_one(PickPanel).say("Still looking at this machine", facts)

    def offer(self, worth_it: bool) -> None:
        """A calibration, where it was neither done nor declined."""
        if self.is_open:
            self.query_one(Offer).facts = CALIBRATE if worth_it and self.wizard.choice.here else ()

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
        self.wizard.sessions = tuple(found)

    def list_sessions(self, found: Sequence[Session]) -> None:
        if self.is_open:
            listing = self.query_one(SessionList)
            if listing.has_focus and not found:
                self.query_one(Forward).focus()
            listing.show(found)
            self.refresh_bindings()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.wizard.visit(self.wizard.sessions[event.option_index])

    def show(self, answer: Answer) -> None:
        self.line = answer.choice.line
        self.show_machine(answer.ranking.machine, answer.choice)
        self.offer(self.wizard.calibration_offered)
        self.query_one(PickPanel).show(answer)
        self.enable_run(True)

    def show_trouble(self, error: AdvisorError) -> None:
        self.line = self.wizard.choice.line
        if self.wizard.machine is not None:
            self.show_machine(self.wizard.machine, self.wizard.choice)
        self.query_one(PickPanel).show_trouble(error, "" if self.wizard.machine is not None else OTHERWISE)
        self.enable_run(False)

    def enable_run(self, possible: bool) -> None:
        run = self.query_one(Forward)
        run.disabled = not possible
        if possible and self.focused is None:
            run.focus()

    def show_machine(self, machine: Machine, choice: Choice) -> None:
        origin = (f"  {words.origin(machine, choice)}", "not bold $foreground-muted")
        self.query_one("#origin", Label).update(Content.assemble("This machine", origin))
        panel = self.query_one(MachinePanel)
        panel.holds, panel.processor = tuple(words.holds(machine)), words.processor(machine)
