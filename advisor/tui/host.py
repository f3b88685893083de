"""What runs: begun, tried, talked to, left running or stopped. The wizard is built on it; it shows nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import App
from textual.reactive import reactive

from advisor.errors import AdvisorError
from advisor.tui.background import background, finished, notify
from advisor.tui.services import Services
from advisor.tui.step import Step

if TYPE_CHECKING:
    from advisor.running.order import Order
    from advisor.running.sessions import Session
    from advisor.tui.calibrating import Calibrating
    from advisor.tui.deed import Deed
    from advisor.tui.errand import Errand
    from advisor.tui.live import Live
    from advisor.tui.start import Start
    from advisor.tui.talk import Said
    from advisor.tui.tryout import Tryout

PATIENCE_S = 8.0
"""Longest that leaving waits for something to end."""

Argv = tuple[str, ...]


class Host(App[Argv]):
    """Whatever runs on behalf of the wizard, and all that is under way.

    Args:
        services: the world outside.
    """

    live: reactive[Live | None] = reactive(None)
    """What runs and is talked to."""
    sessions: reactive[tuple[Session, ...]] = reactive(())
    """What ran when the first step was last shown."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services = services
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

    def action_go(self, step: str) -> None:
        """To a step."""
        raise NotImplementedError

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

    def heed_signals(self) -> None:
        """A closed terminal, or whoever ends this: what is under way is stopped, what runs already goes on."""
        for name in ("SIGHUP", "SIGTERM"):
            # Not every system has them, and only the main thread may listen.
            with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(getattr(signal, name), self.leave)

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
