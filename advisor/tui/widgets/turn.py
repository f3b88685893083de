"""One question and its answer: Markdown as it comes, the thinking before it folded away."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Click
from textual.widgets import Label, Markdown, Static
from textual.widgets.markdown import MarkdownFence, MarkdownStream

from advisor.commands.chat import timings_words
from advisor.tui.talk import Said

STOPPED, FULL = "stopped", "the context is full: ctrl+n begins a new conversation"
"""Ends that are no faults."""


class Fold(Label):
    """`▸ thought for 3 s`: a click unfolds it."""

    def on_click(self, event: Click) -> None:
        event.stop()
        self.query_ancestor(Turn).unfold()


class Turn(Vertical):
    """Shows what is said."""

    def __init__(self, said: Said) -> None:
        super().__init__(classes="turn")
        self.said = said
        self.stream: MarkdownStream | None = None
        self.unfolded = False

    def compose(self) -> ComposeResult:
        yield Static(self.said.question, classes="asked", markup=False)
        yield Fold("", classes="fold", markup=False)
        yield Static("", classes="thought", markup=False)
        yield Markdown(self.said.answer, classes="answer")
        yield Label("reading", classes="note", markup=False)

    def on_mount(self) -> None:
        self.note()

    async def add(self, text: str) -> None:
        """More of the answer."""
        if self.stream is None:
            self.stream = Markdown.get_stream(self.query_one(Markdown))
        await self.stream.write(text)

    async def end(self) -> None:
        """Nothing more comes."""
        if self.stream is not None:
            stream, self.stream = self.stream, None
            await stream.stop()
        self.note()

    def unfold(self) -> None:
        """Show the thinking, or fold it again."""
        self.unfolded = not self.unfolded
        self.note()

    def note(self) -> None:
        """What is said beside the answer."""
        if not self.query(".note"):
            return  # taken away again before it was composed
        said = self.said
        fold, thought = self.query_one(Fold), self.query_one(".thought", Static)
        fold.display = bool(said.thought)
        thought.display = bool(said.thought) and self.unfolded
        if said.thought:
            doing = "thought" if said.answer or said.ended is not None else "thinking"
            fold.update(f"{'▾' if self.unfolded else '▸'} {doing} for {said.thought_s:.0f} s")
        if thought.display:
            thought.update(said.thought.strip())
        note = self.query_one(".note", Label)
        words = [said.ended] if said.ended else []
        if said.ended is None:
            words = [] if said.answer or said.thought else ["reading"]
        elif said.ended in ("", STOPPED, FULL) and said.timings is not None and said.timings.predicted_n:
            words.append(timings_words(said.timings))
        note.update(", ".join(words))
        note.display = bool(words)
        note.set_class(bool(said.ended) and said.ended not in (STOPPED, FULL), "-wrong")

    @property
    def codes(self) -> list[str]:
        """The answer's blocks of code, as they are read."""
        return [fence.code for fence in self.query(MarkdownFence)]
