"""From tokens to text while they come: whole characters, no stop strings, thoughts and tool calls apart."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from backends.native.tools import CALL_BEGIN, Call, Reading, held

THOUGHT_BEGIN, THOUGHT_END = "<|channel>thought\n", "<channel|>"
"""How Gemma 4 writes its thoughts; without thinking the larger sizes still write an empty one."""


class Piece(NamedTuple):
    """Some text of an answer; `thought`: of the reasoning before it."""

    text: str
    thought: bool = False


class Form(NamedTuple):
    """What to look for in an answer.

    Args:
        stops: the answer ends before the first of these.
        thoughts: whether thoughts are marked and go apart.
        calls: whether tools may be called.
        one_call: the answer ends after the first call.
        begun: what the prompt has already begun in the answer's place: a call that must come.
    """

    stops: tuple[str, ...] = ()
    thoughts: bool = True
    calls: bool = False
    one_call: bool = False
    begun: str = ""


PLAIN = Form()


def merged(one: Piece | Call, other: Piece | Call) -> Piece | Call | None:
    """Both as one, where the second goes on with the first."""
    if isinstance(one, Piece) and isinstance(other, Piece) and one.thought == other.thought:
        return Piece(one.text + other.text, one.thought)
    if isinstance(one, Call) and isinstance(other, Call) and not other.name:
        return Call(one.name, one.arguments + other.arguments)
    return None


def joined(events: Iterable[Piece | Call]) -> list[Piece | Call]:
    """Whole calls, and neighbouring pieces as one."""
    found: list[Piece | Call] = []
    for event in events:
        both = merged(found[-1], event) if found else None
        found[-1:] = [both] if both else [*found[-1:], event]
    return found


class Reader:
    """Turns the bytes of tokens into pieces of text and of tool calls.

    A character may be spread over tokens (byte fallback), and so may a stop string or a mark: what may be the beginning
    of one waits until it is known. Stop strings count in the answer, not in a thought or a call.
    """

    def __init__(self, form: Form = PLAIN) -> None:
        self.stopped = False
        """Nothing comes any more: a stop string was met, or the one call that was asked for."""
        self.calls = 0
        self._form = form
        self._stops = tuple(filter(None, form.stops))
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._thinks, self._may_think = False, form.thoughts
        self._call: Reading | None = None
        """The call that is being read."""
        self._waiting = form.begun

    @property
    def watches(self) -> bool:
        """Whether the text may end the answer, so that no token may wait before it becomes text."""
        return bool(self._stops) or self._form.one_call

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Piece | Call]:
        """What `data` completes; nothing once `stopped`."""
        if self.stopped:
            return
        self._waiting += self._decoder.decode(data, final)
        while not self.stopped:
            if self._call:
                yield from self._tool(self._call, final=final)
                if self._call:
                    return
                continue
            found = self._mark()
            if found is None:
                break
            at, mark = found
            before, self._waiting = self._waiting[:at], self._waiting[at + len(mark) :]
            yield from self._text(before)
            self.stopped = mark in self._stops
            self._turn(mark)
        if not self.stopped:
            yield from self._rest(final=final)

    @property
    def _marks(self) -> tuple[str, ...]:
        if self._thinks:
            return (THOUGHT_END,)
        return (*self._stops, *[THOUGHT_BEGIN] * self._may_think, *[CALL_BEGIN] * self._form.calls)

    def _mark(self) -> tuple[int, str] | None:
        """The first mark in what waits."""
        return min(((at, m) for m in self._marks if (at := self._waiting.find(m)) >= 0), default=None)

    def _turn(self, mark: str) -> None:
        """Go on with what `mark` begins or ends. One thought at most, and only before the answer."""
        self._may_think = False
        self._thinks = mark == THOUGHT_BEGIN
        self._call = Reading() if mark == CALL_BEGIN else None

    def _text(self, text: str) -> Iterator[Piece]:
        if text:
            self._may_think = self._may_think and not text.strip()
            yield Piece(text, self._thinks)

    def _tool(self, call: Reading, *, final: bool) -> Iterator[Piece | Call]:
        begun = call.begun
        for found in call.feed(self._waiting, final=final):
            yield Piece(found) if isinstance(found, str) else found
        self.calls += call.begun and not begun
        self._waiting = ""
        if call.ended:
            self._call, self._waiting = None, call.rest
            self.stopped = self._form.one_call and call.begun

    def _rest(self, *, final: bool) -> Iterator[Piece]:
        """What waits and cannot become a mark; at the end everything."""
        wait = 0 if final else held(self._waiting, self._marks)
        ready, self._waiting = self._waiting[: len(self._waiting) - wait], self._waiting[len(self._waiting) - wait :]
        yield from self._text(ready)
