"""From tokens to text while they come: whole characters, no stop strings, thoughts apart from the answer."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import NamedTuple

THOUGHT_BEGIN, THOUGHT_END = "<|channel>thought\n", "<channel|>"
"""How Gemma 4 writes its thoughts; without thinking the larger sizes still write an empty one."""


class Piece(NamedTuple):
    """Some text of an answer; `thought`: of the reasoning before it."""

    text: str
    thought: bool = False


def held(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `marks`, and must wait."""
    longest = min(len(text), max(map(len, marks), default=1) - 1)
    return next((n for n in range(longest, 0, -1) if any(m.startswith(text[-n:]) for m in marks)), 0)


class Reader:
    """Turns the bytes of tokens into pieces of text.

    A character may be spread over tokens (byte fallback), and so may a stop string or the mark of a thought: what may
    be the beginning of one waits until it is known. Stop strings count in the answer, not in a thought.

    Args:
        stops: the answer ends before the first of these.
        thoughts: whether thoughts are marked and go apart.
    """

    def __init__(self, stops: Sequence[str] = (), *, thoughts: bool = True) -> None:
        self.stopped = False
        self._stops = tuple(filter(None, stops))
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begin: str | None = THOUGHT_BEGIN if thoughts else None
        self._thinking = False
        self._waiting = ""

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Piece]:
        """The pieces that `data` completes; nothing after a stop string (`stopped`)."""
        if self.stopped:
            return
        self._waiting += self._decoder.decode(data, final)
        while True:
            mark = THOUGHT_END if self._thinking else self._begin
            stops = () if self._thinking else self._stops
            marks = [*stops, mark] if mark else list(stops)
            found = [(at, m) for m in marks if (at := self._waiting.find(m)) >= 0]
            if not found:
                break
            at, hit = min(found)
            if at:
                yield Piece(self._waiting[:at], self._thinking)
            self._waiting = self._waiting[at + len(hit) :]
            if hit in stops:
                self.stopped = True
                return
            # One thought at most, and only before the answer: later marks are text like any other.
            self._begin, self._thinking = None, not self._thinking
        wait = 0 if final else held(self._waiting, marks)
        ready, self._waiting = self._waiting[: len(self._waiting) - wait], self._waiting[len(self._waiting) - wait :]
        if ready:
            if not self._thinking and ready.strip():
                self._begin = None
            yield Piece(ready, self._thinking)
