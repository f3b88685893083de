"""Step 7: a conversation, and beside it what the server counts while it answers."""

from __future__ import annotations

import functools
import gc
import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Label
from textual.worker import Worker

from advisor.errors import AdvisorError
from advisor.running import sessions
from advisor.running.client import Done, Text, Timings
from advisor.running.order import ADAPTS
from advisor.running.snippets import Snippet
from advisor.tui.background import background
from advisor.tui.screens.endpoint import Endpoint
from advisor.tui.step import Step
from advisor.tui.talk import GREEDY, Clock, Reply, Said
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.live_panel import Figures, LiveLine, LivePanel
from advisor.tui.widgets.question import Question
from advisor.tui.widgets.stepper import Choosable, Stepper
from advisor.tui.widgets.turn import FULL, STOPPED, Turn

if TYPE_CHECKING:
    from advisor.tui.live import Live
    from backends.base import Stats

FRAME_S, LOOK_S = 0.05, 1.5
SILENT_S = 8.0
"""Without a word for so long, it is said; long prompts take their time."""
TEMPERATURES = (GREEDY, 0.3, 0.7, 1.0, 1.5)
HINT = "It answers on this machine, and nothing leaves it. For a start:\nWhich model fits 16 GB?"
NEAR = 2
"""Lines from the end within which the conversation follows what comes: whoever has scrolled up is left there."""
LENGTHS = (ADAPTS, 0, 1, 2, 3, 4, 5, 6, 8)


class ChatStep(Step):
    """Questions, answers, and figures."""

    STEP = "chat"
    AUTO_FOCUS = "#question"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "halt", "Back", tooltip="Stops an answer; where none comes, one step back"),
        Binding("ctrl+r", "retry", "Retry", priority=True, tooltip="The last question once more"),
        Binding("ctrl+y", "copy_code", "Code", priority=True, tooltip="The last block of code; again: the one before"),
        Binding("ctrl+t", "thoughts", "Thoughts", show=False, priority=True, tooltip="Unfold the thinking, or fold it"),
        Binding("ctrl+o", "endpoint", "Address", priority=True, tooltip="The address, and what to paste where"),
        Binding("ctrl+l", "live", "Live", priority=True, tooltip="The figures, draft length and temperature"),
        Binding("ctrl+q", "app.quit", "Quit", priority=True, tooltip="Leave; you are asked what becomes of the model"),
        Binding("s", "app.go('summary')", "Summary", show=False),
        Binding("pageup", "scroll_turns(-1)", "Page up", show=False),
        Binding("pagedown", "scroll_turns(1)", "Page down", show=False),
    ]
    HELP = """
A conversation with what runs on this machine. **Enter** sends, **Escape** stops an answer, `ctrl+r` asks the last
question once more, `ctrl+y` copies the last block of code, `ctrl+t` unfolds what was thought, `ctrl+o` shows the
address with snippets for other programs. `ctrl+l` goes to the figures, where draft length and temperature are changed:
from the next answer on.

Going back leaves it running; the first step shows it. *Stop it* ends it.
"""

    def __init__(self) -> None:
        super().__init__()
        self.reply: Reply | None = None
        self.turn: Turn | None = None
        self.stats: Stats | None = None
        self.trouble = ""
        self.heard_at = 0.0
        """When anything came last."""
        self.looking: Worker[None] | None = None
        self.dead = False
        self.follows = True
        """Whether the newest is shown: not to those who have scrolled up."""
        self.scrolled = 0.0
        self.copied = 0
        self.clock = Clock()
        self.thinking_since = 0.0

    def body(self) -> ComposeResult:
        with Horizontal(id="talk"):
            with Vertical(id="left"):
                with VerticalScroll(id="turns", can_focus=True):
                    yield Label(HINT, id="hint", markup=False)
                yield LiveLine()
                yield Question()
            with Vertical(id="live"):
                yield LivePanel()
                yield Stepper("Drafts", "How many tokens are guessed a round, from the next answer on.", id="drafts")
                yield Stepper("Temperature", "0 always takes the likeliest word; 1 is Gemma's own.", id="temperature")

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
        self.query_one("#hint").display = not live.talk.said
        self.line = f"advisor chat {live.session.name}"
        self.offer(live)
        turns = self.query_one("#turns", VerticalScroll)
        turns.mount_all([Turn(said) for said in live.talk.said])
        turns.scroll_end(animate=False)
        # Why an answer is not whole comes last, and is laid out some time after its end.
        self.watch(turns, "virtual_size", self.grown, init=False)
        # A full collection of all that is imported stops every frame for a tenth of a second; what is here now stays.
        gc.collect()
        gc.freeze()
        self.set_interval(FRAME_S, self.frame)
        self.set_interval(LOOK_S, self.look)
        self.look()

    @property
    def live(self) -> Live | None:
        return self.wizard.live

    def offer(self, live: Live) -> None:
        """Draft lengths and temperatures, those that can be chosen."""
        drafts, temperature = self.query_one("#drafts", Stepper), self.query_one("#temperature", Stepper)
        drafts.display = live.can_choose_drafts
        names = {ADAPTS: "as many as pay", 0: "none"}
        choices = [Choosable[object](length, names.get(length, str(length)), "") for length in LENGTHS]
        drafts.offer(choices, live.talk.drafts)
        known = sorted({*TEMPERATURES, live.talk.temperature})
        heats = [Choosable[object](heat, "0, greedy" if heat == GREEDY else f"{heat:.1f}", "") for heat in known]
        temperature.offer(heats, live.talk.temperature)

    def on_stepper_changed(self, event: Stepper.Changed) -> None:
        if self.live is not None:
            setattr(self.live.talk, "drafts" if event.stepper.id == "drafts" else "temperature", event.value)
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
        turn = self.turn = Turn(said)
        turns = self.query_one("#turns", VerticalScroll)
        self.query_one("#hint").display = False
        turns.mount(turn)
        self.follow(turns)
        self.copied = 0
        self.thinking_since = self.heard_at = time.monotonic()
        self.query_one("#stop", Button).disabled = False
        reply.begin()
        self.refresh_bindings()

    async def frame(self) -> None:
        """What came since the last frame. All of it at once: however fast it comes, a frame takes as long."""
        reply, turn, live = self.reply, self.turn, self.live
        if reply is None or turn is None or live is None or not turn.is_mounted:
            return
        turns = self.query_one("#turns", VerticalScroll)
        self.mind_scrolling(turns)
        over = reply.over
        pieces = reply.taken()
        said = turn.said
        text = "".join(one.text for one in pieces if isinstance(one, Text) and not one.thought)
        thought = "".join(one.text for one in pieces if isinstance(one, Text) and one.thought)
        said.timings = next((one.timings for one in reversed(pieces) if one.timings is not None), said.timings)
        if thought:
            said.thought += thought
            said.thought_s = time.monotonic() - self.thinking_since
        if text:
            said.answer += text
            await turn.add(text)
        if pieces:
            self.heard_at = time.monotonic()
            turn.note()
            if self.follows:
                self.follow(turns)
            if self.clock.due() and (speed := self.speed(said.timings)):
                live.talk.rates.append(speed)
            self.draw()
        elif self.silent_s > SILENT_S:
            self.draw()
        if over:
            await self.ended(next((one.reason for one in pieces if isinstance(one, Done)), ""))

    @property
    def silent_s(self) -> float:
        """How long nothing has come of the answer that is on its way."""
        return time.monotonic() - self.heard_at if self.answering else 0.0

    def mind_scrolling(self, turns: VerticalScroll) -> None:
        """Whoever has scrolled up is left there; what came at once and is not drawn yet is no scrolling."""
        if turns.max_scroll_y - turns.scroll_y <= NEAR:
            self.follows = True
        elif turns.scroll_y < self.scrolled:
            self.follows = False
        self.scrolled = turns.scroll_y

    def on_resize(self) -> None:
        """What was in sight of the newest stays in sight; this comes before anything is laid out anew."""
        for turns in self.query("#turns").results(VerticalScroll):
            if turns.max_scroll_y - turns.scroll_y <= NEAR:
                self.follow(turns)

    def grown(self) -> None:
        """There is more of the conversation than before."""
        if self.follows:
            self.follow(self.query_one("#turns", VerticalScroll))

    def follow(self, turns: VerticalScroll) -> None:
        """Show the newest, once it is laid out."""
        self.call_after_refresh(turns.scroll_end, animate=False, immediate=True)

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

    async def action_halt(self) -> None:
        """Stop an answer; where none comes, go back."""
        if self.answering:
            await self.action_stop()
        elif self.has_class("panel"):
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
        for turn in self.query(Turn):
            if turn.said is last:
                await turn.remove()
        self.ask(last.question)

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
            silence = f"nothing has come for {self.silent_s:.0f} s; Esc stops it" if self.silent_s > SILENT_S else ""
            found = figures(self.live, said[-1].timings if said else None, self.stats, self.trouble or silence)
            self.query_one(LivePanel).figures = found
            self.query_one(LiveLine).figures = found

    # ---- Keys

    def action_live(self) -> None:
        """To the figures and back; in a narrow terminal they take the place of the conversation."""
        inside = self.focused is not None and self.focused.id in ("drafts", "temperature")
        self.set_class(not inside, "panel")
        if inside:
            self.query_one(Question).focus()
        else:
            first = "#drafts" if self.query_one("#drafts").display else "#temperature"
            self.call_after_refresh(self.query_one(first).focus)

    def action_endpoint(self) -> None:
        """The address, and what to paste where."""

        def taken(snippet: Snippet | None) -> None:
            if snippet is not None:
                self.wizard.copy(snippet.text)

        if self.live is not None and self.is_current:
            self.app.push_screen(Endpoint(self.live.session), taken)

    def action_copy_code(self) -> None:
        """The last block of code; with each key more, the one before."""
        codes = [code for turn in self.query(Turn) for code in turn.codes]
        if codes:
            self.copied = self.copied % len(codes) + 1
            self.wizard.copy(codes[-self.copied])

    def action_thoughts(self) -> None:
        """Unfold the thinking of the last answer that has some, or fold it."""
        for turn in reversed(list(self.query(Turn))):
            if turn.said.thought:
                turn.unfold()
                return

    def action_scroll_turns(self, pages: int) -> None:
        """Through the conversation."""
        turns = self.query_one("#turns", VerticalScroll)
        turns.scroll_relative(y=pages * max(1, turns.size.height - 2), animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "retry":
            return self.is_current and bool(self.live and self.live.talk.said)
        if action == "copy_code":
            return self.is_current and any(turn.codes for turn in self.query(Turn))
        if action in ("thoughts", "live", "endpoint"):
            return self.is_current
        return super().check_action(action, parameters)


class Gone(NamedTuple):
    """It does not run any more."""

    cause: AdvisorError


def counted(live: Live) -> Stats | Gone:
    """What the server counted.

    Raises:
        AdvisorError: it does not answer.
    """
    try:
        if sessions.is_alive(live.session):
            return live.backend.stats(live.session.endpoint)
    except AdvisorError as error:
        if sessions.is_alive(live.session):
            raise
        return Gone(error)
    return Gone(live.backend.cause(live.session.endpoint))


def figures(live: Live, timings: Timings | None, stats: Stats | None, trouble: str) -> Figures:
    """All that is shown beside the conversation: of the present answer where it tells, else of all of them."""
    from advisor.tui.live import drafts_in_words  # noqa: PLC0415

    positions, accepted = accepted_of(timings, stats)
    rates = tuple(live.talk.rates)
    used = sum(value or 0 for value in (timings.cache_n, timings.prompt_n, timings.predicted_n)) if timings else 0
    lengths = timings.draft_lengths if timings else ()
    rounds = sum(lengths)
    return Figures(
        rate=(timings.predicted_per_second if timings else None) or (rates[-1] if rates else None),
        rates=rates,
        expected_rate=live.expected_tokens_per_s,
        positions=positions,
        accepted=accepted,
        drafts=drafts_in_words(live.talk.drafts) if live.can_choose_drafts else "",
        drafting=sum(index * count for index, count in enumerate(lengths)) / rounds if rounds else None,
        memory=stats.memory_bytes if stats else None,
        expected_memory=live.expected_bytes,
        context=used,
        context_size=live.session.context_tokens,
        trouble=trouble,
        name=f"{live.session.model} on {live.session.backend}",
    )


def accepted_of(timings: Timings | None, stats: Stats | None) -> tuple[tuple[float, ...], float | None]:
    """Shares of guesses that were right, by position and in all: of the present answer, where it tells."""
    if timings is not None and (timings.draft_n or timings.draft_lengths):
        drafted = timings.draft_n or 0
        return timings.accepted_per_position, (timings.draft_n_accepted or 0) / drafted if drafted else None
    if stats is not None and stats.drafted:
        return stats.accepted_per_position, stats.accepted / stats.drafted
    return (), None
