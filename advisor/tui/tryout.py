"""The work of step 6: with and without the drafter, on three kinds of prompt; the faster is kept and remembered."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from advisor.commands.again import again
from advisor.running import sessions, starting
from advisor.running.order import Order, Setup
from advisor.trials.answers import ADAPTS, Answered, Asked, Opener
from advisor.trials.decision import PLAIN
from advisor.trials.prompts import Prompt
from advisor.trials.schedule import USUAL, Plan
from advisor.trials.trial import Look, Sample, Stage, Trial
from advisor.trials.trial_sessions import Own, Running
from advisor.tui import services
from advisor.tui.deed import Deed
from advisor.tui.live import Live

if TYPE_CHECKING:
    from advisor.pages.trial_document import KindPart

KINDS = ("code", "questions", "story")
"""A drafter is right most often in code, and least in a story."""
EACH_S = 10.0
"""For each kind, with the drafter and without it."""
ANSWER_S = 1.5
PASSES = 64
SILENT_S, AGAIN_S = 5.0, 0.1
"""How long the last answer may take once it is to end, and how often a server that says nothing is ended."""


class Now(NamedTuple):
    """What is being asked."""

    kind: str
    length: int
    since: float


class Tryout(Deed):
    """One short trial of what runs. A backend that fixes the length at the start is ended, tried, and started again.

    Args:
        live: what runs; how it was started is known.
        configure: makes a setup of an order, where there is none yet.
        each_s: seconds for each kind and length, at most.
    """

    def __init__(
        self,
        live: Live,
        *,
        configure: Callable[[Order], Setup] = services.configure,
        each_s: float = EACH_S,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(then)
        self.live = live
        self._configure = configure
        self.stage = "starting"
        self.now: Now | None = None
        self.samples: tuple[Sample, ...] = ()
        self.look: Look | None = None
        self.result: KindPart | None = None
        self.session = live.session
        """What runs afterwards."""
        self.abandoned = False
        """Whether nothing need run afterwards: the wizard is left."""
        self.begun_at = time.monotonic()
        self._own: Own | None = None
        drafts = live.session.draft_tokens or USUAL
        seconds = each_s * len(KINDS) * 2
        self.plan = Plan(
            lengths=(PLAIN, drafts),
            kinds=KINDS,
            depth_tokens=0,
            passes=PASSES,
            seconds=seconds,
            answer_s=min(ANSWER_S, each_s / 2),
            quick=True,
        )

    def abandon(self) -> None:
        """Cancel it, and run nothing afterwards."""
        self.abandoned = True
        self.cancel()

    def cancel(self) -> None:
        """Tell it to end with the answer that comes. A server of its own that says nothing is ended: nothing else wakes
        whoever waits for it."""
        if not self.cancelled:
            threading.Thread(target=self._put_down, name="cancel", daemon=True).start()
        super().cancel()

    def _put_down(self) -> None:
        over = self.wait(SILENT_S)
        while not over:
            if self._own is not None:
                self._own.end()
            over = self.wait(AGAIN_S)

    @property
    def in_the_way(self) -> bool:
        """Whether another trial has to wait for this one."""
        return self.under_way and not (self.cancelled and self.live.backend.drafts_per_request)

    @property
    def setup(self) -> Setup:
        """What runs was started from. Blocks where that is found out first: headers are read.

        Raises:
            AdvisorError: it cannot be found out.
        """
        if self.live.setup is None:
            self.live.setup = self._configure(again(self.live.session))
        return self.live.setup

    @property
    def left_s(self) -> float:
        """The most that remains."""
        return max(0.0, self.plan.seconds - (time.monotonic() - self.begun_at))

    def apply(self) -> None:
        """Let the conversation go on with what was found to be the faster."""
        self.live.session = self.session
        if self.result is not None:
            self.live.keep(self.result.draft_tokens)

    # ---- In the thread

    def work(self) -> None:
        backend, setup = self.live.backend, self.setup
        if backend.drafts_per_request:
            self.measure(Running(backend, self.live.session))
            return
        sessions.end(self.live.session, backend)
        try:
            self._own = Own(backend, setup)
            self.measure(self._own)
        finally:
            if not self.abandoned:
                self.stage = "starting again"
                self.session = starting.open_session(backend, kept(setup, self.result))

    def measure(self, opener: Opener) -> None:
        """Until all is clear, the time is up, or it is cancelled: what was measured until then counts."""
        trial = Trial(self.plan)
        self.begun_at = time.monotonic()
        try:
            with contextlib.closing(trial.run(Told(opener, self))) as events:
                for event in events:
                    self.see(event)
                    if self.cancelled:
                        break
        finally:
            self.now = None
            self.conclude(trial)

    def see(self, event: object) -> None:
        """Keep what is shown."""
        if isinstance(event, Stage):
            self.stage = event.what
        elif isinstance(event, Look):
            self.look = event
        elif isinstance(event, Sample):
            self.stage = ""
            self.samples = (*self.samples, event)

    def conclude(self, trial: Trial) -> None:
        """Decide with what was measured, and remember it; as `advisor trial` does."""
        from advisor.hardware.detection import detect  # noqa: PLC0415
        from advisor.pages import trial_document  # noqa: PLC0415
        from advisor.prediction import measurements  # noqa: PLC0415
        from advisor.running import tried  # noqa: PLC0415

        if trial.decision() is None:
            return
        setup = self.setup
        machine = setup.estimate.machine if setup.estimate else detect()
        subject = trial_document.subject_of(
            setup.model, self.live.backend, machine, quant=tried.quant_of(setup), placement=tried.placement_of(setup)
        )
        found = trial_document.document(trial, subject)
        self.result = found.overall
        depth = found.overall.depth_tokens if found.overall else 0
        measurements.keep(*trial_document.measurements(found, expected=tried.expectations(setup, depth)))


def kept(setup: Setup, result: KindPart | None) -> Setup:
    """What is started again: with the length that was found, or without the drafter."""
    if result is None:
        return setup
    length = result.draft_tokens
    drafter = setup.model.drafter if length != PLAIN else None
    return msgspec.structs.replace(
        setup, model=msgspec.structs.replace(setup.model, drafter=drafter, draft_tokens=length)
    )


class Told:
    """An opener whose sessions say what they are asked."""

    def __init__(self, opener: Opener, tryout: Tryout) -> None:
        self.per_request, self.adapts = opener.per_request, opener.adapts
        self.context_tokens = opener.context_tokens
        self._opener, self._tryout = opener, tryout

    def open(self, length: int) -> AbstractContextManager[Asked]:
        return self._opened(length)

    @contextlib.contextmanager
    def _opened(self, length: int) -> Iterator[Asked]:
        with self._opener.open(length) as session:
            yield _Telling(session, self._tryout)


class _Telling:
    def __init__(self, session: Asked, tryout: Tryout) -> None:
        self._session, self._tryout = session, tryout
        self.memory_bytes, self.positions = session.memory_bytes, session.positions

    def ask(self, prompt: Prompt, length: int, tokens: int, *, cold: bool) -> Answered:
        self._tryout.check()
        self._tryout.now = Now(prompt.kind, length, time.monotonic())
        return self._session.ask(prompt, length, tokens, cold=cold)


def with_drafter(length: int) -> bool:
    return length == ADAPTS or length > PLAIN
