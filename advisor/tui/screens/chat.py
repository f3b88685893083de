"""Step 7: a conversation, and beside it what the server counts while it answers."""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button
from textual.worker import Worker

from advisor.errors import AdvisorError
from advisor.running.client import Done, Timings
from advisor.running.snippets import Snippet
from advisor.tui import words
from advisor.tui.background import background
from advisor.tui.figures import Gone, counted, figures
from advisor.tui.screens.endpoint import Endpoint
from advisor.tui.step import Step
from advisor.tui.talk import Clock, Reply, Said
from advisor.tui.widgets.conversation import Conversation
from advisor.tui.widgets.dials import Dials
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.live_panel import LiveLine, LivePanel
from advisor.tui.widgets.question import Question
from advisor.tui.widgets.turn import FULL, STOPPED, Turn

if TYPE_CHECKING:
    from advisor.tui.live import Live
    from backends.base import Stats

FRAME_S, LOOK_S = 0.05, 1.5


class ChatStep(Step):
    """Questions, answers, and figures."""

    STEP = "chat"
    AUTO_FOCUS = "#question"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the answer; what came is kept"),
        Binding("escape", "halt", "Back", tooltip="To the step before; it goes on running"),
        Binding("ctrl+r", "retry", "Retry", priority=True, tooltip="The last question once more"),
        Binding("ctrl+y", "copy_code", "Code", priority=True, tooltip="The last block of code; again: the one before"),
        Binding("ctrl+n", "anew", "New", show=False, priority=True, tooltip="A new conversation; this one is gone"),
        Binding("ctrl+t", "thoughts", "Thoughts", show=False, priority=True, tooltip="Unfold the thinking, or fold it"),
        Binding("ctrl+o", "endpoint", "Address", priority=True, tooltip="The address, and what to paste where"),
        Binding("ctrl+l", "live", "Live", priority=True, tooltip="The figures, draft length and temperature"),
        Binding("ctrl+q", "app.quit", "Quit", priority=True, tooltip="Leave; you are asked what becomes of the model"),
        Binding("s", "app.go('summary')", "Summary", show=False),
        Binding("q", "app.quit", "Quit", show=False),
        Binding("pageup", "scroll_turns(-1)", "Page up", show=False),
        Binding("pagedown", "scroll_turns(1)", "Page down", show=False),
    ]
    HELP = """
A conversation with what runs on this machine. **Enter** sends, **Escape** or `ctrl+c` stops an answer, `ctrl+r` asks
the last question once more, `ctrl+n` begins a new conversation, `ctrl+y` copies the last block of code, `ctrl+t`
unfolds what was thought, `ctrl+o` shows the address with snippets for other programs. `ctrl+l` goes to the figures,
where draft length and temperature are changed: from the next answer on.

Going back leaves it running; the first step shows it. *Stop it* ends it.
"""

    def __init__(self) -> None:
        super().__init__()
        self.reply: Reply | None = None
        self.turn: Turn | None = None
        self.stats: Stats | None = None
        self.trouble = ""
        self.looking: Worker[None] | None = None
        self.dead = False
        self.clock = Clock()

    def body(self) -> ComposeResult:
        with Horizontal(id="talk"):
            with Vertical(id="left"):
                yield Conversation()
                yield LiveLine()
                yield Question()
            with Vertical(id="live"):
                yield LivePanel()
                yield Dials()

    def actions(self) -> ComposeResult:
        yield Forward("Send", action="screen.send")
        yield Button("Stop", compact=True, action="screen.stop", id="stop", disabled=True)
        yield Button("Address", compact=True, action="screen.endpoint")
        yield Button("Leave it running", compact=True, action="app.go('answer')", id="leave")
        yield Button("Stop it", compact=True, action="app.end", id="end")

    def on_mount(self) -> None:
        if not self.is_open:
            return
        live = self.wizard.live
        if live is None:
            return
        self.line = f"advisor chat {live.session.name}"
        self.query_one(Dials).offer(live)
        self.conversation.resume(live.talk.said)
        # A full collection of all that is imported stops every frame for a tenth of a second; what is here now stays.
        gc.collect()
        gc.freeze()
        self.set_interval(FRAME_S, self.frame)
        self.set_interval(LOOK_S, self.look)
        self.look()

    @property
    def live(self) -> Live | None:
        return self.wizard.live

    @property
    def conversation(self) -> Conversation:
        return self.query_one(Conversation)

    def on_stepper_changed(self) -> None:
        self.draw()

    # ---- Asking

    @property
    def answering(self) -> bool:
        return self.reply is not None

    @property
    def waits(self) -> bool:
        """Whether the trial still has the server, and will start another one."""
        tryout = self.wizard.tryout
        return tryout is not None and not tryout.over and self.live is not None and not self.live.can_choose_drafts

    def action_send(self) -> None:
        """Ask what is typed."""
        if self.dead:
            self.wizard.restart()
        else:
            self.query_one(Question).action_send()

    def on_question_sent(self, event: Question.Sent) -> None:
        if self.answering or self.dead or self.live is None:
            return
        if self.waits:
            self.notify("The trial is ending; a moment")
            return
        self.query_one(Question).clear()
        self.ask(event.text)

    def ask(self, question: str) -> None:
        """Ask, and show the answer as it comes."""
        live = self.live
        if live is None:
            return
        reply = self.reply = Reply(live.backend, live.session, live.talk.messages(question), live.talk.options)
        said = Said(question)
        live.talk.said.append(said)
        self.turn = self.conversation.add(said)
        self.query_one("#stop", Button).disabled = False
        reply.begin()
        self.refresh_bindings()

    async def frame(self) -> None:
        """What came since the last frame. All of it at once: however fast it comes, a frame takes as long."""
        reply, turn, live = self.reply, self.turn, self.live
        if reply is None or turn is None or live is None or not turn.is_mounted:
            return
        self.conversation.mind_scrolling()
        over = reply.over
        pieces = reply.taken()
        if text := turn.said.add(pieces):
            await turn.add(text)
        if pieces:
            turn.note()
            if self.clock.due() and (speed := self.speed(turn.said.timings)):
                live.talk.rates.append(speed)
            self.draw()
        elif self.silence:
            self.draw()
        if over:
            await self.ended(next((one.reason for one in pieces if isinstance(one, Done)), ""))

    @property
    def silence(self) -> str:
        """What is said where nothing comes of an answer; empty where something does."""
        return words.silence(self.reply.silent_s) if self.reply is not None else ""

    def on_resize(self) -> None:
        """What was in sight of the newest stays in sight; this comes before anything is laid out anew."""
        for conversation in self.query(Conversation):
            if conversation.at_end:
                conversation.follow()

    def speed(self, timings: Timings | None) -> float | None:
        """Tokens per second now: as the server counts, or as pieces come."""
        if timings is not None and timings.predicted_per_second:
            return timings.predicted_per_second
        return self.reply.pace if self.reply is not None else None

    async def ended(self, reason: str = "") -> None:
        """The answer is over, one way or another."""
        reply, turn = self.reply, self.turn
        if reply is None or turn is None:
            return
        self.reply = None
        said = turn.said
        said.ended = FULL if reason == "length" else ""
        if reply.cancelled:
            said.ended = STOPPED
        elif reply.error is not None:
            said.ended = ". ".join(part for part in (reply.error.message, reply.error.hint) if part)
        await turn.end()
        self.query_one("#stop", Button).disabled = True
        self.draw()
        self.look()
        self.refresh_bindings()

    async def action_stop(self) -> None:
        """Stop the answer; what came is kept."""
        if self.reply is not None:
            self.reply.cancel()
            await self.frame()
            await self.ended()

    async def interrupt(self) -> bool:
        answering = self.answering
        await self.action_stop()
        return answering

    async def action_halt(self) -> None:
        """Back: from the figures to the conversation, or one step."""
        if self.has_class("panel"):
            self.action_live()
        else:
            await self.wizard.action_back()

    async def action_retry(self) -> None:
        """The last question once more."""
        live = self.live
        if live is None or not live.talk.said or self.dead:
            return
        await self.action_stop()
        last = live.talk.said.pop()
        await self.conversation.take_back(last)
        self.ask(last.question)

    async def action_anew(self) -> None:
        """Forget what was said: the context is empty again."""
        live = self.live
        if live is None:
            return
        await self.action_stop()
        live.talk.said.clear()
        await self.conversation.clear()
        self.draw()
        self.refresh_bindings()

    async def on_unmount(self) -> None:
        if self.reply is not None:
            self.reply.cancel()
            if self.turn is not None:
                self.turn.said.ended = STOPPED

    # ---- What runs

    def look(self) -> None:
        """Ask the server what it counted, and whether it is there."""
        live = self.live
        asked = self.looking is not None and not self.looking.is_finished
        if live is not None and not self.waits and not self.dead and not asked:
            work = functools.partial(counted, live)
            self.looking = background(self, work, self.seen, group="stats", otherwise=self.lost)

    def seen(self, found: Stats | Gone) -> None:
        if isinstance(found, Gone):
            self.lost(found.cause, gone=True)
            return
        self.stats, self.trouble = found, found.unknown
        self.draw()

    def lost(self, error: AdvisorError, *, gone: bool = False) -> None:
        """It does not answer any more."""
        live = self.live
        if live is None:
            return
        self.trouble = error.message
        self.dead = gone
        if self.dead:
            forward = self.query_one(Forward)
            forward.label = "Start again" if live.can_begin_again else "Send"
            forward.disabled = not live.can_begin_again
            forward.refresh(layout=True)
            self.notify(error.message, title=f"{live.session.name} is gone", severity="error", markup=False)
        self.draw()

    def draw(self) -> None:
        """The figures."""
        if self.live is not None:
            said = self.live.talk.said
            timings = said[-1].timings if said else None
            found = figures(self.live, timings, self.stats, self.trouble or self.silence)
            self.query_one(LivePanel).figures = found
            self.query_one(LiveLine).figures = found

    # ---- Keys

    def action_live(self) -> None:
        """To the figures and back; in a narrow terminal they take the place of the conversation."""
        inside = self.focused is not None and self.focused.parent is self.query_one(Dials)
        self.set_class(not inside, "panel")
        if inside:
            self.query_one(Question).focus()
        else:
            self.call_after_refresh(self.query_one(Dials).first.focus)

    def action_endpoint(self) -> None:
        """The address, and what to paste where."""

        def taken(snippet: Snippet | None) -> None:
            if snippet is not None:
                self.wizard.copy(snippet.text)

        if self.live is not None and self.is_current:
            self.app.push_screen(Endpoint(self.live.session), taken)

    def action_copy_code(self) -> None:
        """The last block of code; with each key more, the one before."""
        if code := self.conversation.next_code():
            self.wizard.copy(code)

    def action_thoughts(self) -> None:
        """Unfold the thinking of the last answer that has some, or fold it."""
        self.conversation.unfold()

    def action_scroll_turns(self, pages: int) -> None:
        """Through the conversation."""
        self.conversation.page(pages)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("stop", "halt"):
            return self.answering == (action == "stop")
        if action in ("retry", "anew"):
            return self.is_current and bool(self.live and self.live.talk.said)
        if action == "copy_code":
            return self.is_open and self.is_current and bool(self.conversation.codes)
        if action in ("thoughts", "live", "endpoint"):
            return self.is_current
        return super().check_action(action, parameters)
