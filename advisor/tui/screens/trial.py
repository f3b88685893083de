"""Step 6: does the drafter pay here? Measured while one looks on; the faster is kept."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Button, Label

from advisor.console.progress import clock
from advisor.pages.trial_page import verdict_line
from advisor.tui import words
from advisor.tui.background import background
from advisor.tui.step import Step
from advisor.tui.tryout import KINDS, Tryout, with_drafter
from advisor.tui.widgets.facts import Facts
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.lanes import Kind, Lane, Lanes

if TYPE_CHECKING:
    from advisor.running.sessions import Session
    from advisor.trials.trial import Sample
    from advisor.tui.live import Live

FRAME_S = 0.1
NAMES = {"code": "Code", "questions": "Questions", "story": "Story"}


class TrialStep(Step):
    """Ten seconds each with and without the drafter, on three kinds of prompt."""

    STEP = "trial"
    AUTO_FOCUS = "#forward"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "cancel", "Cancel", tooltip="Decide with what was measured so far"),
        Binding("r", "again", "Again", tooltip="Measure once more"),
    ]
    HELP = """
The same questions with the drafter and without it, in turn, for at most ten seconds each on three kinds of prompt; it
ends sooner where all is clear. The faster is kept, and remembered for the next start. **Enter** goes on to the chat at
any time; what was measured until then counts.
"""

    def __init__(self) -> None:
        super().__init__()
        self.refused = False
        """Whether there is nothing to compare."""
        self.dead = False
        """Whether what was tried does not run any more."""
        self.drawn = (False, False)
        """Whether it was over, and another one possible, when that was last shown."""

    def body(self) -> ComposeResult:
        yield Label("Does the drafter pay here?", id="headline", classes="headline", markup=False)
        yield Label("", id="subtitle", classes="muted", markup=False)
        with Vertical(classes="section"):
            yield Lanes()
        yield Facts(id="facts")

    def actions(self) -> ComposeResult:
        yield Forward("Skip to the chat", action="screen.next")
        yield Button("Cancel", compact=True, action="screen.cancel", id="cancel")
        yield Button("Again", compact=True, action="screen.again", id="again", disabled=True)
        yield Button("Back", compact=True, action="app.back")

    def on_mount(self) -> None:
        if not self.is_open:
            return
        self.set_interval(FRAME_S, self.look)
        live = self.wizard.live
        if live is None:
            return
        self.line = f"advisor trial {live.session.name} --quick"
        if live.untried:
            self.refuse(live)
        elif self.wizard.tryout is None:
            self.action_again()
        else:
            self.look()

    def refuse(self, live: Live) -> None:
        """There is nothing to compare."""
        self.query_one("#headline", Label).update("Nothing to try")
        self.query_one("#facts", Facts).facts = (("Because", live.untried),)
        self.query_one("#cancel", Button).disabled = True
        self.query_one(Forward).label = "Chat"
        self.refused = True

    # ---- Doing

    def action_again(self) -> None:
        """Measure once more."""
        live, before = self.wizard.live, self.wizard.tryout
        if live is None or live.untried or self.dead or (before is not None and before.in_the_way):
            return
        self.refused = False
        self.wizard.try_out(live)
        self.query_one(Forward).label = "Skip to the chat"
        self.query_one("#facts", Facts).facts = ()
        self.look()

    def action_next(self) -> None:
        """On to the chat; where nothing runs any more, start it again."""
        if self.dead:
            self.wizard.restart()
        else:
            self.wizard.action_go("chat")

    def action_cancel(self) -> None:
        """Decide with what was measured so far."""
        if self.wizard.tryout is not None and not self.wizard.tryout.over:
            self.wizard.tryout.cancel()
            self.look()

    async def interrupt(self) -> bool:
        under_way = bool(self.check_action("cancel", ()))
        self.action_cancel()
        return under_way

    def on_unmount(self) -> None:
        # Whoever goes on, or back, has seen enough.
        if self.wizard.tryout is not None:
            self.wizard.tryout.cancel()

    def on_screen_suspend(self) -> None:
        top = self.app.screen
        if isinstance(top, Step) and top is not self:
            self.action_cancel()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        tryout = self.wizard.tryout
        if action == "cancel":
            return tryout is not None and not tryout.over and not tryout.cancelled
        if action == "again":
            return not self.refused and not self.dead and tryout is not None and not tryout.in_the_way
        return super().check_action(action, parameters)

    # ---- Showing

    def look(self) -> None:
        """Draw how far it is."""
        tryout = self.wizard.tryout
        if tryout is None or not self.is_open:
            return
        self.query_one(Lanes).kinds = tuple(kind(tryout, name) for name in KINDS)
        self.query_one("#subtitle", Label).update(state(tryout))
        over, free = tryout.over, not tryout.in_the_way
        self.query_one("#cancel", Button).disabled = over or tryout.cancelled
        if (over, free) != self.drawn:
            self.drawn = (over, free)
            self.query_one("#again", Button).disabled = not free
            if over:
                self.conclude(tryout)
            self.refresh_bindings()

    def look_whether_it_runs(self, tryout: Tryout) -> None:
        """Offer what is possible after a failure."""

        def found(alive: bool) -> None:
            self.dead = not alive
            if self.dead and tryout.live.can_begin_again:
                forward = self.query_one(Forward)
                forward.label = "Start again"
                forward.refresh(layout=True)
                self.query_one("#again", Button).disabled = True
            self.refresh_bindings()

        background(self, functools.partial(runs, tryout.session), found, group="runs", otherwise=lambda _: None)

    def conclude(self, tryout: Tryout) -> None:
        """Say what came of it. What is kept is kept by the app: it holds wherever one is by then."""
        self.query_one(Forward).label = "Chat"
        facts = []
        if tryout.error is not None:
            facts = [("Because", tryout.error.message), ("What helps", tryout.error.hint), ("", tryout.error.command)]
            self.look_whether_it_runs(tryout)
        elif tryout.result is not None:
            said = verdict_line(tryout.result)
            facts = [("Result", f"{said[0].upper()}{said[1:]}."), ("Kept", kept(tryout))]
        else:
            facts = [("Result", "Not enough was measured to say.")]
        self.query_one("#facts", Facts).facts = tuple(fact for fact in facts if fact[1])


def runs(session: Session) -> bool:
    """Whether it can be tried once more, or talked to."""
    from advisor.running import sessions  # noqa: PLC0415

    return sessions.is_alive(session)


def kept(tryout: Tryout) -> str:
    """What was done about it."""
    with_it = tryout.result is not None and with_drafter(tryout.result.draft_tokens)
    return f"the chat goes on {'with' if with_it else 'without'} the drafter, and so does the next start"


def state(tryout: Tryout) -> str:
    """What goes on, in a line."""
    if tryout.over:
        count = len(tryout.samples)
        return f"{count} answers were compared" if count else ""
    if tryout.cancelled:
        return "ending"
    if tryout.now and (silent := words.silence(time.monotonic() - tryout.now.since, "no answer", "x ends the trial")):
        return silent
    if tryout.stage:
        return tryout.stage
    return f"{clock(tryout.left_s)} left at most; it ends sooner where all is clear"


def kind(tryout: Tryout, name: str) -> Kind:
    """A kind as it stands."""
    of_kind = [one for one in tryout.samples if one.kind == name]
    now = tryout.now
    asking = None if now is None or now.kind != name else with_drafter(now.length)
    return Kind(
        NAMES.get(name, name),
        lane([one for one in of_kind if not with_drafter(one.length)], asking=asking is False),
        lane([one for one in of_kind if with_drafter(one.length)], asking=asking is True),
    )


def lane(samples: list[Sample], *, asking: bool) -> Lane:
    last = next((one.answered.positions for one in reversed(samples) if one.answered.positions), ())
    return Lane(tuple(one.answered.tokens_per_s for one in samples), asking, last)
