"""The wizard itself: what has been chosen, the answer to it, and the way between the steps."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Callable, Iterable, Sequence
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
from advisor.tui.background import background, finished, notify
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from advisor.tui.state import Answer, Choice, answer, machine_of
from advisor.tui.step import Step
from advisor.tui.themes import OWN, colourless, first_theme
from advisor.tui.widgets.shell_line import ShellLine

if TYPE_CHECKING:
    from advisor.running.order import Order
    from advisor.running.sessions import Session
    from advisor.tui.aim import Aim
    from advisor.tui.calibrating import Calibrating
    from advisor.tui.deed import Deed
    from advisor.tui.errand import Errand
    from advisor.tui.live import Live
    from advisor.tui.start import Start
    from advisor.tui.talk import Said
    from advisor.tui.tryout import Tryout

DEBOUNCE_S = 0.06
"""Keys that come faster than this count as one change."""

PATIENCE_S = 8.0
"""Longest that leaving waits for something to end."""

Argv = tuple[str, ...]


class Wizard(App[Argv]):
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
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", tooltip="What the focused part does, and its keys"),
        Binding("c", "copy_line", "Copy", show=False, tooltip="Copy the command line"),
        Binding("q", "quit", "Quit", tooltip="Leave; what runs in the background goes on"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    choice: reactive[Choice] = reactive(Choice)
    answer: reactive[Answer | None] = reactive(None)
    trouble: reactive[AdvisorError | None] = reactive(None)
    live: reactive[Live | None] = reactive(None)
    """What runs and is talked to."""
    sessions: reactive[tuple[Session, ...]] = reactive(())
    """What ran when the first step was last shown."""
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
        super().__init__()
        self.complaint = complaint
        self.services = services or Services()
        self.remember = remember
        self.detected: Machine | None = None
        self.errand: Errand | None = None
        """What the summary shows and may be started; None while something is in the way."""
        self.started: Start | None = None
        """The last start, under way or over."""
        self.asked = ""
        """The command of the errand that was started."""
        self.resumed: list[Said] = []
        """A conversation whose server was lost."""
        self.tryout: Tryout | None = None
        """The trial of what runs, under way or over."""
        self.calibrating: Calibrating | None = None
        """The last calibration, under way or over."""
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

    def heed_signals(self) -> None:
        """A closed terminal, or whoever ends this: what is under way is stopped, what runs already goes on."""
        for name in ("SIGHUP", "SIGTERM"):
            # Not every system has them, and only the main thread may listen.
            with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(getattr(signal, name), self.leave)

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

    # ---- What runs

    @property
    def talkable(self) -> tuple[Session, ...]:
        """Sessions that ran before, and answer."""
        return tuple(one for one in self.sessions if one.status == "running")

    def begin(self, wanted: Order) -> None:
        """Start an order; one that is under way ends first."""
        from advisor.tui.start import Start  # noqa: PLC0415

        if self.started is not None and not self.started.over:
            self.started.cancel()
        made = self.started = Start(wanted, self.services, then=lambda: self.call_later(self._runs, made))
        self.tryout = None
        made.begin()

    def _runs(self, started: Start) -> None:
        if started is self.started and started.live is not None:
            self.live = started.live
            self.live.talk.said = self.resumed
            self.resumed = []
            self.refresh_bindings()

    def try_out(self, live: Live) -> None:
        """Measure what runs with and without its drafter; the faster is kept."""
        from advisor.tui.tryout import Tryout  # noqa: PLC0415

        def concluded() -> None:
            if live is self.live and made is self.tryout:
                made.apply()
                self.refresh_bindings()

        made = self.tryout = Tryout(
            live,
            configure=self.services.configure,
            each_s=self.services.each_s,
            then=lambda: self.call_later(concluded),
        )
        made.begin()

    def join(self, session: Session) -> None:
        """Turn to what ran before; what was talked to until now goes on running."""
        from advisor.tui.live import Live  # noqa: PLC0415
        from backends.base import load  # noqa: PLC0415

        if self.live is not None and self.live.session.since == session.since:
            return
        try:
            backend = load(session.backend)
        except AdvisorError as error:
            notify(self, error)
            return
        if self.tryout is not None:
            self.tryout.cancel()
        self.tryout = None
        self.live = Live(session=session, backend=backend)

    def visit(self, session: Session) -> None:
        """Ask what is wanted of a session, and do it."""
        from advisor.tui.screens.visit import Visit  # noqa: PLC0415

        def chosen(what: str | None) -> None:
            if what == "stop":
                self.stop(session)
            elif what is not None:
                self.join(session)
                if self.live is not None and self.live.session.since == session.since:
                    self.action_go(what)

        if isinstance(self.screen, Step):
            self.push_screen(Visit(session), chosen)

    def stop(self, session: Session) -> None:
        """Stop a session, whoever started it."""
        if self.live is not None and self.live.session.since == session.since:
            self.action_end()
            return
        from advisor.running import sessions  # noqa: PLC0415

        work = functools.partial(sessions.end, session)
        background(self, work, lambda _: self.forget(session), group="stop", finish=True)

    def forget(self, session: Session) -> None:
        """It has ended."""
        self.sessions = tuple(one for one in self.sessions if one.name != session.name)
        self.notify(f"{session.name} was stopped", markup=False)

    def end(self, then: Callable[[], object] = lambda: None) -> None:
        """Stop what runs, in the background; `then` is called when it is gone."""
        live = self.live
        if live is None:
            return
        from advisor.running import sessions  # noqa: PLC0415

        if self.tryout is not None:
            self.tryout.abandon()

        def gone(_: object) -> None:
            self.live = None
            self.forget(live.session)
            then()

        background(self, functools.partial(sessions.end, live.session, live.backend), gone, group="end", finish=True)

    def restart(self) -> None:
        """Start again what was lost, and go on with the conversation."""
        from advisor.tui.errand import repeated  # noqa: PLC0415

        if self.live is None:
            return
        self.resumed = self.live.talk.said
        if self.errand is None or self.live.setup is None or self.errand.command != self.asked:
            # Another summary may have been looked at since.
            self.errand = repeated(self.live.session.command)

        def anew() -> None:
            self.action_go("answer")
            self.action_go("start")

        self.end(then=anew)

    def action_end(self) -> None:
        """Stop what runs, and return to the first step."""
        self.end(then=lambda: self.action_go("answer"))

    async def action_quit(self) -> None:
        """Leave. What is under way is stopped first; what runs is asked about."""
        from advisor.tui.screens.leave import Leave  # noqa: PLC0415

        if isinstance(self.screen, Leave):
            return
        if self.live is None:
            self.leave()
        else:
            self.push_screen(Leave(self.live.session), self.left)

    def left(self, stop: bool | None) -> None:
        """`stop`: what runs, too; None: stay."""
        if stop:
            self.end(then=self.leave)
        elif stop is not None:
            self.leave()

    def leave(self) -> None:
        """End, when nothing half-made is left."""
        if any(deed.under_way for deed in self.deeds):
            self.notify("Stopping what is under way; a moment")
        background(self, self.settle, lambda _: self.exit(), group="leave", otherwise=lambda _: self.exit())

    def settle(self) -> None:
        """Cancel what is under way, and wait for it. Blocks; not for long, whatever hangs."""
        if self.tryout is not None:
            self.tryout.abandon()
        going_on = [deed for deed in self.deeds if deed.under_way]
        for deed in going_on:
            deed.cancel()
        end = time.monotonic() + PATIENCE_S
        for deed in going_on:
            deed.wait(max(0.0, end - time.monotonic()))
        finished(max(0.0, end - time.monotonic()))

    @property
    def deeds(self) -> list[Deed]:
        """What may be under way."""
        return [deed for deed in (self.started, self.tryout, self.calibrating) if deed is not None]

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
