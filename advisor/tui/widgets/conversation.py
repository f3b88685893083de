"""The conversation: its turns, one below the other; the newest stays in sight, unless whoever reads has scrolled up."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Label

from advisor.tui.talk import Said
from advisor.tui.widgets.turn import Turn

HINT = "It answers on this machine, and nothing leaves it. For a start:\nWhich model fits 16 GB?"
NEAR = 2
"""Lines from the end within which it follows what comes."""
DRAWN = 40
"""Turns that are drawn: with hundreds, laying them out takes longer than a frame may."""


class Conversation(VerticalScroll):
    """Questions and answers."""

    def __init__(self) -> None:
        super().__init__(id="turns", can_focus=True)
        self.follows = True
        """Whether the newest is shown: not to those who have scrolled up."""
        self.scrolled = 0.0
        self.copied = 0
        """Blocks of code that were copied, from the last one back."""
        self.left_out = 0
        """Turns at the beginning that are not drawn any more."""

    def compose(self) -> ComposeResult:
        yield Label(HINT, id="hint", markup=False)

    def resume(self, said: Sequence[Said]) -> None:
        """Show what was said already."""
        self.mount_all([Turn(one) for one in said[-DRAWN:]])
        self.say(len(said) - len(said[-DRAWN:]), beginning=not said)
        self.scroll_end(animate=False)
        # Whatever makes it longer is followed: why an answer is not whole is laid out some time after its end.
        self.watch(self, "virtual_size", self.grown, init=False)

    def add(self, said: Said) -> Turn:
        """One more question."""
        turn = Turn(said)
        before = self.turns
        # Whoever has scrolled up is reading some of them.
        older = before[: max(0, len(before) + 1 - DRAWN)] if self.follows else []
        for each in older:
            each.remove()
        self.say(self.left_out + len(older))
        self.mount(turn)
        self.copied = 0
        self.follow()
        return turn

    async def take_back(self, said: Said) -> None:
        """Without that turn."""
        for turn in self.turns:
            if turn.said is said:
                await turn.remove()

    async def clear(self) -> None:
        """Nothing was said."""
        await self.query(Turn).remove()
        self.say(0, beginning=True)

    def say(self, left_out: int, *, beginning: bool = False) -> None:
        """What stands above the turns."""
        self.left_out = left_out
        hint = self.query_one("#hint", Label)
        hint.display = beginning or left_out > 0
        earlier = "The first question is" if left_out == 1 else f"The first {left_out} questions are"
        hint.update(HINT if beginning else f"{earlier} shown no longer; the model still reads all.")

    @property
    def turns(self) -> list[Turn]:
        return list(self.query(Turn))

    # ---- What is in sight

    @property
    def at_end(self) -> bool:
        return self.max_scroll_y - self.scroll_y <= NEAR

    def mind_scrolling(self) -> None:
        """Whoever has scrolled up is left there; what came at once and is not drawn yet is no scrolling."""
        if self.at_end:
            self.follows = True
        elif self.scroll_y < self.scrolled:
            self.follows = False
        self.scrolled = self.scroll_y

    def grown(self) -> None:
        """There is more of it than before."""
        if self.follows:
            self.follow()

    def follow(self) -> None:
        """Show the newest, once it is laid out."""
        self.call_after_refresh(self.scroll_end, animate=False, immediate=True)

    def page(self, pages: int) -> None:
        """So many pages on, or back."""
        self.scroll_relative(y=pages * max(1, self.size.height - 2), animate=False)

    # ---- What can be done with it

    @property
    def codes(self) -> list[str]:
        """All blocks of code."""
        return [code for turn in self.turns for code in turn.codes]

    def next_code(self) -> str | None:
        """The last block of code; each time the one before."""
        codes = self.codes
        if not codes:
            return None
        self.copied = self.copied % len(codes) + 1
        return codes[-self.copied]

    def unfold(self) -> None:
        """Unfold the thinking of the last answer that has some, or fold it."""
        for turn in reversed(self.turns):
            if turn.said.thought:
                turn.unfold()
                return
