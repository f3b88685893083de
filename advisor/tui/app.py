"""The wizard itself: what has been chosen, the answer to it, and the way between the steps."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.reactive import reactive
from textual.screen import Screen
from textual.theme import Theme
from textual.timer import Timer

from advisor.errors import AdvisorError
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.tui import route, settings
from advisor.tui.background import background, notify
from advisor.tui.host import Argv, Host
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from advisor.tui.state import Answer, Choice, answer, machine_of
from advisor.tui.step import Step
from advisor.tui.themes import OWN, colourless, first_theme
from advisor.tui.widgets.shell_line import ShellLine

if TYPE_CHECKING:
    from textual.command import Provider

    from advisor.tui.aim import Aim

DEBOUNCE_S = 0.06
"""Keys that come faster than this count as one change."""


def commands() -> type[Provider]:
    """What fills the palette, imported when it opens."""
    from advisor.tui.widgets.options import Commands  # noqa: PLC0415

    return Commands


class Wizard(Host):
    """Opens on an answer. Returns the command line to go on with, or None.

    Args:
        services: the world outside.
        options: the user's settings; `remember`: whether changes of them are written.
        choice: what to begin with, in place of the settings' defaults.
        complaint: what was wrong with the settings; shown when it opens.
    """

    TITLE = "advisor"
    CSS_PATH = "advisor.tcss"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS = {commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", tooltip="What the focused part does, and its keys"),
        Binding("c", "copy_line", "Copy", show=False, tooltip="Copy the command line"),
        Binding("q", "quit", "Quit", tooltip="Leave; what runs in the background goes on"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    choice: reactive[Choice] = reactive(Choice)
    answer: reactive[Answer | None] = reactive(None)
    trouble: reactive[AdvisorError | None] = reactive(None)
    calibration_offered: reactive[bool] = reactive(False)

    def __init__(
        self,
        *,
        services: Services | None = None,
        options: Settings | None = None,
        remember: bool = True,
        choice: Choice | None = None,
        complaint: AdvisorError | None = None,
    ) -> None:
        self.options = options or Settings()
        # Before Textual's own part of it: every change of the theme parses all stylesheets anew.
        self.set_reactive(Wizard.theme, first_theme(self.options.theme))
        super().__init__(services or Services())
        self.complaint = complaint
        self.remember = remember
        self.detected: Machine | None = None
        self._soon: Timer | None = None
        first = choice or Choice(use_case=self.options.use_case, prefer=self.options.prefer)
        self.set_reactive(Wizard.choice, first)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, lambda theme: self._remember_theme(theme.name))
        self.push_screen(route.build("answer"))
        # Its first picture before anything else: whatever runs beside shares one interpreter with it.
        self.screen.call_after_refresh(self.look)
        if self.complaint is not None:
            notify(self, self.complaint)
        self.heed_signals()

    @property
    def available_themes(self) -> dict[str, Theme]:
        """Textual's, and the wizard's own."""
        return {**super().available_themes, **{theme.name: theme for theme in OWN}}

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Where colours are not wanted there are none, and not greys."""
        found = super().get_line_filters()
        return colourless(found) if self.no_color else found

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Tokens that the themes of the terminal's own sixteen colours lack."""
        return {"foreground-disabled": "ansi_bright_black"}

    # ---- The answer

    def action_look(self) -> None:
        """Detect the machine once more."""
        self.look()

    def look(self) -> None:
        """Look at this machine, once more or for the first time."""
        background(self, self.services.detect, self._detected, group="detect", otherwise=self._failed)

    def _detected(self, machine: Machine) -> None:
        self.detected = machine
        self._reckon()
        work = functools.partial(self.services.uncalibrated, machine)
        background(self, work, self._offer, group="offer", otherwise=lambda _: None)

    def _offer(self, worth_it: bool) -> None:
        self.calibration_offered = worth_it

    def choose(self, **changes: Any) -> None:
        """Change what is chosen; the answer follows."""
        self.choice = msgspec.structs.replace(self.choice, **changes)

    def watch_choice(self) -> None:
        if self._soon is not None:
            self._soon.stop()
        self._soon = self.set_timer(DEBOUNCE_S, self._reckon)

    @property
    def busy(self) -> bool:
        """Whether a change still waits for those that come after it."""
        return self._soon is not None

    def _reckon(self) -> None:
        self._soon = None
        if self.detected is None and self.choice.here:
            return
        choice, detected = self.choice, self.detected

        def work() -> Answer:
            # The catalogue too: the first time it is read from its YAML.
            return answer(choice, detected, catalog.load())

        background(self, work, self._answered, group="answer", otherwise=self._failed)

    def _answered(self, found: Answer) -> None:
        self.trouble = None
        self.answer = found

    def _failed(self, error: AdvisorError) -> None:
        self.trouble = error

    @property
    def machine(self) -> Machine | None:
        """The machine that the choice is about; None while it is not known, or cannot be."""
        try:
            return machine_of(self.choice, self.detected, catalog.load())
        except (AdvisorError, LookupError):
            return None

    # ---- The way

    def action_go(self, step: str) -> None:
        """To a step: back where it is open already, on otherwise."""
        if not self.may_go(step):
            return
        if step in ("trial", "chat") and self.live is None:
            self.join(self.talkable[0])
            if self.live is None:
                return
        while len(self.screen_stack) > 1 and not isinstance(self.screen, Step):
            self.pop_screen()
        open_steps = [screen.STEP for screen in self.screen_stack if isinstance(screen, Step)]
        if step not in open_steps:
            self.push_screen(route.build(step))
            return
        for _ in open_steps[open_steps.index(step) + 1 :]:
            self.pop_screen()

    def may_go(self, step: str) -> bool:
        """Whether a step has something to show."""
        if step == "start":
            return self.errand is not None
        if step in ("trial", "chat"):
            return self.live is not None or bool(self.talkable)
        return step in ("answer", "backend") or self.answer is not None

    def action_machine(self) -> None:
        """Correct the machine, or take another one."""
        from advisor.tui.screens.machine import MachineDialog  # noqa: PLC0415

        def taken(choice: Choice | None) -> None:
            if choice is not None:
                self.choice = choice

        if isinstance(self.screen, Step):
            self.push_screen(MachineDialog(self.choice, self.detected), taken)

    def action_calibrate(self) -> None:
        """Offer to measure this machine."""
        from advisor.tui.calibrating import Calibrating  # noqa: PLC0415
        from advisor.tui.screens.calibrate import Calibrate  # noqa: PLC0415

        if self.detected is not None and isinstance(self.screen, Step):
            self.calibrating = Calibrating(self.detected, self.services)
            names = tuple(one.name for one in self.sessions)
            self.push_screen(Calibrate(self.calibrating, names), self._calibrated)

    def _calibrated(self, measured: bool | None) -> None:
        """True: it was measured, and what rests on it is reckoned anew. False: it is not wanted. None: neither."""
        if measured is None or self.detected is None:
            return
        self.calibration_offered = False
        if measured:
            self.look()
        else:
            work = functools.partial(self.services.decline, self.detected)
            background(self, work, lambda _: None, group="decline", finish=True)

    def action_unpick(self) -> None:
        """Leave the choice of the file to advisor again."""
        self.choose(model=None, quant=None)

    async def action_back(self) -> None:
        """One step back; on the first one it does nothing."""
        if len(self.screen_stack) > 2:  # noqa: PLR2004 - the app's own empty screen, and the first step
            self.pop_screen()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "back":
            return sum(isinstance(screen, Step) for screen in self.screen_stack) > 1
        if action == "go" and isinstance(self.screen, Step):
            # None greys it out, False hides it.
            return False if parameters[0] == self.screen.STEP else self.may_go(str(parameters[0])) or None
        return super().check_action(action, parameters)

    def action_start(self) -> None:
        """Do what the summary has confirmed."""
        if self.errand is not None:
            self.action_go("start")

    def action_demo(self) -> None:
        """The summary of the embedded pair: it is small, and here already."""
        from advisor.tui import aim  # noqa: PLC0415

        self.action_go("answer")
        self.sum_up(aim.demo())

    def sum_up(self, aim: Aim) -> None:
        """The summary of something else than the answer."""
        from advisor.tui.screens.summary import SummaryStep  # noqa: PLC0415

        if isinstance(self.screen, Step):
            self.push_screen(SummaryStep(aim))

    # ---- Commands

    def action_copy_line(self) -> None:
        """Copy the command line of the screen."""
        for shown in self.screen.query(ShellLine):
            if shown.line:
                self.copy(shown.line)

    def copy(self, text: str) -> None:
        """Into the clipboard, and say so."""
        self.copy_to_clipboard(text)
        self.notify(text, title="Copied", markup=False)

    def action_help(self) -> None:
        """What the focused part does, and its keys."""
        from advisor.tui.screens.help import Help, about, keys  # noqa: PLC0415

        if not isinstance(self.screen, Help):
            self.push_screen(Help(about(self.screen), keys(self.screen)))

    def action_command_palette(self) -> None:
        """Everything that is possible now."""
        from advisor.tui.widgets.options import Palette  # noqa: PLC0415

        if not Palette.is_open(cast(App[object], self)):
            self.push_screen(Palette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: what is possible now."""
        from advisor.tui.palette import entries  # noqa: PLC0415 - when it is opened

        yield from entries(self)
        for command in super().get_system_commands(screen):
            if command.title in ("Theme", "Quit", "Screenshot"):
                yield command

    # ---- Settings

    def _remember_theme(self, name: str) -> None:
        if name == self.options.theme or self.no_color:
            return
        self.options = msgspec.structs.replace(self.options, theme=name)
        if self.remember:
            work = functools.partial(settings.save, self.options)
            background(self, work, lambda _: None, group="settings", finish=True)


def run(options: Settings, trouble: AdvisorError | None = None) -> Argv | None:
    """Open the wizard in this terminal; returns the command line to go on with.

    Args:
        trouble: what was wrong with the settings; shown, not raised.
    """
    return Wizard(options=options, complaint=trouble).run()
