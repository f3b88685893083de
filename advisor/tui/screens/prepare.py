"""Step 5: fetch, load, and the first answer; what to do where one of them fails."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Button, Label

from advisor.commands.again import order
from advisor.commands.launch import lines
from advisor.errors import AdvisorError
from advisor.running.remedy import Remedy, remedy
from advisor.tui.start import Stage, Start
from advisor.tui.step import Step
from advisor.tui.widgets.facts import Fact, Facts
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.stages import Progress, Stages

FRAME_S = 0.1
NUMBERS: dict[Stage, int] = {"deciding": 0, "fetching": 1, "loading": 2, "asking": 3, "running": 4}


class PrepareStep(Step):
    """From the confirmed summary to an endpoint that answers."""

    STEP = "start"
    AUTO_FOCUS = "#forward"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", tooltip="Stops what is under way; files go on where they were"),
        Binding("x", "cancel", "Cancel", tooltip="Stop here; what was fetched is kept"),
        Binding("w", "plain", "Without drafter", tooltip="Start it again without its drafter, which only costs time"),
    ]
    HELP = """
Now it happens. `x` or **Escape** stops it at any point: nothing of it runs any more, and what was fetched is kept, so
that it goes on there the next time. If something fails, the button offers what to do instead.
"""

    def __init__(self) -> None:
        super().__init__()
        self.loading_since = 0.0
        self.drawn = ""
        """What was last shown, apart from the figures."""

    def body(self) -> ComposeResult:
        yield Label("", id="headline", classes="headline", markup=False)
        yield Label("", id="subtitle", classes="muted", markup=False)
        with Vertical(classes="section"):
            yield Stages()
        yield Facts(id="facts")

    def actions(self) -> ComposeResult:
        yield Forward("Trial", action="screen.next", disabled=True)
        yield Button("Chat", compact=True, action="app.go('chat')", id="chat")
        yield Button("Without drafter", compact=True, action="screen.plain", id="plain")
        yield Button("Cancel", compact=True, action="screen.cancel", id="cancel")
        yield Button("Back", compact=True, action="screen.leave")
        yield Button("Stop it", compact=True, action="app.end", id="end")

    def on_mount(self) -> None:
        if not self.is_open:
            return
        self.set_interval(FRAME_S, self.look)
        errand = self.wizard.errand
        if errand is None:
            return
        self.line = errand.command
        live = self.wizard.live
        if live is None:
            self.start(errand.command)
        elif not self.is_mine:
            self.occupied()
        else:
            self.look()

    @property
    def is_mine(self) -> bool:
        """Whether what runs is what was confirmed."""
        started, errand = self.wizard.started, self.wizard.errand
        mine = started is not None and started.live is self.wizard.live
        return mine and errand is not None and errand.command == self.wizard.asked

    # ---- Doing

    def start(self, command: str) -> None:
        """Begin with an order; another one that is under way ends first."""
        self.line = command
        if self.wizard.errand is not None:
            self.wizard.asked = self.wizard.errand.command
        try:
            wanted = order(command)
        except AdvisorError as error:
            self.query_one("#headline", Label).update("That cannot be started")
            self.query_one("#facts", Facts).facts = (("Because", error.message), ("What helps", error.hint))
            return
        self.wizard.begin(wanted)
        self.loading_since = 0.0
        self.drawn = ""
        self.query_one("#facts", Facts).facts = ()
        self.look()

    def occupied(self) -> None:
        """Something runs already: two models at once are seldom what is wanted."""
        live = self.wizard.live
        if live is None:
            return
        name = live.session.name
        self.query_one("#headline", Label).update(f"{name} runs already")
        self.query_one("#facts", Facts).facts = (
            ("Endpoint", live.session.base_url),
            ("What helps", f"stop {name} to have its memory, then this one is started"),
        )
        self.query_one(Stages).display = False
        self.offer(f"Stop {name} and start", possible=True)

    def action_next(self) -> None:
        """On to the trial; where it failed, what helps."""
        started = self.wizard.started
        if self.wizard.live is not None and not self.is_mine:
            self.query_one(Stages).display = True
            self.wizard.end(then=lambda: self.start(self.line))
        elif started is None or started.live is not None:
            self.wizard.action_go("trial")
        else:
            instead = self.remedy(started)
            self.start(instead.command if instead else self.line)

    def action_plain(self) -> None:
        """Start again without a drafter that is useless."""
        started = self.wizard.started
        if started is not None and started.live is self.wizard.live and self.is_useless(started):
            command = started.order.plain().typed()
            self.wizard.end(then=lambda: self.start(command))

    def is_useless(self, started: Start) -> bool:
        """Whether the first answer showed that the drafter only costs time."""
        return started.proof is not None and bool(started.proof.drawback)

    def action_cancel(self) -> None:
        """Stop here."""
        if self.wizard.started is not None and not self.wizard.started.over:
            self.wizard.started.cancel()
            self.look()

    async def interrupt(self) -> bool:
        under_way = bool(self.check_action("cancel", ()))
        self.action_cancel()
        return under_way

    async def action_leave(self) -> None:
        """Stop what is under way, and go back."""
        self.action_cancel()
        await self.wizard.action_back()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "cancel":
            started = self.wizard.started
            return started is not None and not started.over and not started.cancelled
        if action == "plain":
            started = self.wizard.started
            return started is not None and started.live is not None and self.is_useless(started)
        return super().check_action(action, parameters)

    # ---- Showing

    def look(self) -> None:
        """Draw how far it is."""
        started = self.wizard.started
        if started is None or not self.is_open or not self.query_one(Stages).display:
            return
        if started.stage == "loading" and not self.loading_since:
            self.loading_since = time.monotonic()
        stages = self.query_one(Stages)
        stages.progress = progress(started, self.loading_since)
        if not started.over:
            self.query_one("#facts", Facts).facts = log(started)
        state = f"{started.stage} {started.over} {started.cancelled}"
        if state == self.drawn:
            return
        self.drawn = state
        self.name_it(started)
        self.query_one("#cancel", Button).display = not started.over
        self.query_one("#cancel", Button).disabled = started.cancelled
        for name in ("#chat", "#end"):
            self.query_one(name, Button).display = started.live is not None
        self.query_one("#plain", Button).display = started.live is not None and self.is_useless(started)
        if started.live is not None:
            self.succeeded(started)
        elif not started.over:
            self.offer("Trial", possible=False)
        elif started.cancelled:
            self.query_one("#facts", Facts).facts = (("Stopped", "Nothing runs. What was fetched is kept."),)
            self.offer("Go on", possible=True)
        elif started.error is not None:
            self.failed(started, started.error)
        self.refresh_bindings()

    def name_it(self, started: Start) -> None:
        setup = started.setup
        name = setup.model.name if setup else started.order.model or ""
        words = {"deciding": "Getting ready", "running": "It runs"}.get(started.stage, "Starting")
        if started.over and started.live is None:
            words = "Stopped" if started.cancelled else "That did not work"
        elif started.cancelled and not started.over:
            words = "Stopping"
        self.query_one("#headline", Label).update(f"{words}: {name}")
        what = f"on {setup.backend}; {drafting(started)}" if setup else ""
        self.query_one("#subtitle", Label).update(what)

    def succeeded(self, started: Start) -> None:
        if started.setup is not None and started.live is not None and started.proof is not None:
            found = lines(started.setup, started.live.session, started.proof)
            mind = [("Mind", started.proof.drawback)] if started.proof.drawback else []
            self.query_one("#facts", Facts).facts = (*found, *mind)
        self.offer("Trial", possible=True)

    def failed(self, started: Start, error: AdvisorError) -> None:
        instead = self.remedy(started)
        said: list[Fact] = [("Because", error.message), ("What helps", error.hint), ("", error.command)]
        if instead and not error.command:
            said.append(("Or", instead.command))
        self.query_one("#facts", Facts).facts = tuple(fact for fact in said if fact[1])
        if instead:
            self.line = instead.command
        self.offer(instead.offer if instead else "Try again", possible=True)

    def remedy(self, started: Start) -> Remedy | None:
        """What to start instead of what failed; None where nothing but trying again is left."""
        if started.error is None or started.cancelled:
            return None
        return remedy(started.error, started.order, started.setup.backend if started.setup else "")

    def offer(self, label: str, *, possible: bool) -> None:
        forward = self.query_one(Forward)
        forward.label = label
        forward.disabled = not possible
        forward.refresh(layout=True)
        if possible and self.is_current:
            forward.focus()


def drafting(started: Start) -> str:
    """Whether there is a drafter, and why."""
    setup = started.setup
    if setup is None:
        return ""
    return "with its drafter" if setup.model.drafter else f"without a drafter: {setup.drafter_reason}"


def log(started: Start) -> tuple[Fact, ...]:
    """Where to read what a server says while it loads; nothing before there is one."""
    return (("Log", f"advisor logs {started.claimed.name} --follow"),) if started.claimed else ()


def progress(started: Start, loading_since: float) -> Progress:
    """How far it is, for drawing."""
    setup = started.setup
    now = time.monotonic()
    return Progress(
        stage=NUMBERS[started.stage],
        files=setup.files if setup else (),
        transfers=tuple(started.transfers.values()),
        loading=started.loading,
        loading_s=now - loading_since if loading_since and started.stage == "loading" else 0.0,
        silent_s=0.0 if started.cancelled else now - started.moved_at,
        stopped=started.over and started.live is None,
    )
