"""From tokens to text while they come: whole characters, no stop strings, thoughts and tool calls apart."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from backends.native.tools import CALL_BEGIN, CALL_END, Call, closed, parse

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


def held(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `marks`, and must wait."""
    longest = min(len(text), max(map(len, marks), default=1) - 1)
    return next((n for n in range(longest, 0, -1) if any(m.startswith(text[-n:]) for m in marks)), 0)


class Reader:
    """Turns the bytes of tokens into pieces of text and whole tool calls.

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
        self._end = ""
        """The mark that ends the thought or the call that is being read; none in the answer itself."""
        self._may_think = form.thoughts
        self._seen = 0
        """Characters of an unfinished call that were searched already."""
        self._waiting = form.begun

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Piece | Call]:
        """The pieces and calls that `data` completes; nothing once `stopped`."""
        if self.stopped:
            return
        self._waiting += self._decoder.decode(data, final)
        while not self.stopped and (found := self._mark()):
            at, mark = found
            before, self._waiting = self._waiting[:at], self._waiting[at + len(mark) :]
            yield from self._call(before, mark) if mark == CALL_END else self._text(before)
            self.stopped = self.stopped or mark in self._stops
            self._turn(mark)
        if not self.stopped:
            yield from self._rest(final=final)

    @property
    def _marks(self) -> tuple[str, ...]:
        if self._end:
            return (self._end,)
        return (*self._stops, *[THOUGHT_BEGIN] * self._may_think, *[CALL_BEGIN] * self._form.calls)

    def _mark(self) -> tuple[int, str] | None:
        """The first mark in what waits."""
        if self._end == CALL_END:
            at = self._waiting.find(CALL_END, self._seen)
            while at >= 0 and not closed(self._waiting[:at]):
                at = self._waiting.find(CALL_END, at + 1)
            self._seen = max(0, len(self._waiting) - len(CALL_END))
            return (at, CALL_END) if at >= 0 else None
        return min(((at, m) for m in self._marks if (at := self._waiting.find(m)) >= 0), default=None)

    def _turn(self, mark: str) -> None:
        """Go on with what `mark` begins or ends. One thought at most, and only before the answer."""
        self._may_think, self._seen = False, 0
        self._end = {THOUGHT_BEGIN: THOUGHT_END, CALL_BEGIN: CALL_END}.get(mark, "")

    def _text(self, text: str) -> Iterator[Piece]:
        if text:
            self._may_think = self._may_think and not text.strip()
            yield Piece(text, self._end == THOUGHT_END)

    def _call(self, body: str, end: str) -> Iterator[Piece | Call]:
        call = parse(body)
        if call is None:
            yield Piece(CALL_BEGIN + body + end)
            return
        self.calls += 1
        self.stopped = self._form.one_call
        yield call

    def _rest(self, *, final: bool) -> Iterator[Piece | Call]:
        """What waits and cannot become a mark; at the end everything."""
        if self._end == CALL_END:
            if final:
                yield from self._call(self._waiting, "")
            return
        wait = 0 if final else held(self._waiting, self._marks)
        ready, self._waiting = self._waiting[: len(self._waiting) - wait], self._waiting[len(self._waiting) - wait :]
        yield from self._text(ready)
