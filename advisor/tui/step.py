"""What all steps share: the line of steps at the top, the shell line and the keys at the bottom, and going back."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen

from advisor.tui.route import ROUTE
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.key_line import KeyLine
from advisor.tui.widgets.shell_line import ShellLine
from advisor.tui.widgets.step_line import StepLine

if TYPE_CHECKING:
    from advisor.errors import AdvisorError
    from advisor.tui.app import Wizard
    from advisor.tui.state import Answer

TUNE = "Use case, context, quality or speed; all candidates"
BACKEND = "What can run it, and what the others need"
INTERRUPT = "Copies what is marked, or stops what is under way"
SAID_S = 3.0
"""How long a remark stays."""
MACHINE = "Correct what was detected, or take another machine"


class Step(Screen[None]):
    """A step of the wizard. A subclass names itself, composes its `body`, and shows the answer whenever it changes."""

    STEP: ClassVar[str]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-middle"), (140, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.back", "Back", tooltip="To the step before; nothing is lost"),
        Binding("enter", "forward", "Go on", show=False, tooltip="As the first button"),
        *(Binding(str(place), f"app.go('{step.id}')", show=False) for place, step in enumerate(ROUTE, start=1)),
        Binding("t", "app.go('tune')", "Tune", show=False, tooltip=TUNE),
        Binding("b", "app.go('backend')", "Backend", show=False, tooltip=BACKEND),
        Binding("s", "app.go('summary')", "Summary", tooltip="Files, disk, licence, command"),
        Binding("m", "app.machine", "Machine", show=False, tooltip=MACHINE),
        Binding("ctrl+c", "interrupt", "Stop", show=False, tooltip=INTERRUPT),
        Binding("up", "scroll_body(-1)", "Up", show=False),
        Binding("down", "scroll_body(1)", "Down", show=False),
        Binding("pageup", "scroll_body(-10)", "Page up", show=False),
        Binding("pagedown", "scroll_body(10)", "Page down", show=False),
    ]

    @property
    def wizard(self) -> Wizard:
        """The app, by its own type."""
        return cast("Wizard", self.app)

    def compose(self) -> ComposeResult:
        yield StepLine(self.STEP)
        with VerticalScroll(id="body", can_focus=False):
            yield from self.body()
        with Vertical(id="foot"):
            with Horizontal(id="actions"):
                yield from self.actions()
            yield ShellLine()
            yield KeyLine()

    def on_mount(self) -> None:
        # Textual calls this after the subclass's own, which must not.
        self._answered()
        self.watch(self.app, "answer", self._answered, init=False)
        self.watch(self.app, "trouble", self._answered, init=False)

    @property
    def is_open(self) -> bool:
        """False where it was left again before its content was there."""
        return self in self.app.screen_stack and bool(self.query(ShellLine))

    @property
    def line(self) -> str:
        """The command line that gives what is shown."""
        return self.query_one(ShellLine).line

    @line.setter
    def line(self, text: str) -> None:
        self.query_one(ShellLine).line = text

    def _answered(self) -> None:
        if self not in self.app.screen_stack:
            return  # left again before its content was there
        if self.wizard.trouble is not None:
            self.show_trouble(self.wizard.trouble)
        elif self.wizard.answer is not None:
            self.show(self.wizard.answer)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "forward":
            return self.primary is not None and not self.primary.disabled
        return super().check_action(action, parameters)

    @property
    def primary(self) -> Forward | None:
        """The button to go on with."""
        return next(iter(self.query(Forward)), None)

    def action_forward(self) -> None:
        """As the first button."""
        if self.primary is not None:
            self.primary.press()

    def action_scroll_body(self, lines: int) -> None:
        """Move what is too high for the terminal."""
        self.query_one("#body").scroll_relative(y=lines, animate=False)

    async def action_interrupt(self) -> None:
        """Ctrl-c: copy what is marked, or stop what is under way, or say what leaves."""
        if marked := self.get_selected_text():
            self.wizard.copy(marked)
        elif not await self.interrupt():
            self.notify("Nothing to stop here; ctrl+q leaves", timeout=SAID_S)

    # ---- For the steps

    async def interrupt(self) -> bool:
        """Stop what is under way here; whether anything was."""
        return False

    def body(self) -> ComposeResult:
        """What is between the two lines."""
        yield from ()

    def actions(self) -> ComposeResult:
        """The buttons, the one to go on with first."""
        yield from ()

    def show(self, answer: Answer) -> None:
        """Show an answer; called when the step opens and whenever the answer changes."""

    def show_trouble(self, error: AdvisorError) -> None:
        """Show why there is no answer."""
