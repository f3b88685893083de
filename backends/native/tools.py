"""Tool calls as Gemma 4 writes them, into OpenAI's, while they come.

    <|tool_call>call:weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>

Strings stand between quotes that no text contains, so nothing in them is escaped; keys are bare. Models err: JSON's own
quotes and bare words are read too. What is no call is text; where that shows too late, because a client has been given
the beginning, the rest is passed on as it is and the arguments are no JSON, as they may be with OpenAI.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

CALL_BEGIN, CALL_END = "<|tool_call>", "<tool_call|>"
QUOTE = '<|"|>'
DEPTH = 64
HEAD = re.compile(r"\s*call:\s*([A-Za-z0-9_.:/-]+?)\s*(?=\{)")
BARE = re.compile(rf"(?:(?!{re.escape(CALL_END)})[^,\[\]{{}}])+")
KEY = re.compile(rf"(?:(?!{re.escape(CALL_END)})[^:,\[\]{{}}])+")
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
LONGEST_NUMBER = 300
"""Characters; beyond that it is a text that happens to have digits only."""


class Call(NamedTuple):
    """The beginning of a tool call, or with an empty name more of the last one's arguments.

    `arguments`: a JSON object as text, as OpenAI has it.
    """

    name: str
    arguments: str


def held(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `marks`, and must wait."""
    longest = min(len(text), max(map(len, marks), default=1) - 1)
    return next((n for n in range(longest, 0, -1) if any(m.startswith(text[-n:]) for m in marks)), 0)


class Reading:
    """One call while it comes, from after the mark that begins it.

    Its name is given once a first value is sure, so that little that is no call looks like one.
    """

    def __init__(self) -> None:
        self.begun = self.ended = False
        """`begun`: it is a call, and its name was given."""
        self.rest = ""
        """What is not read yet; when it has ended, what follows it."""
        self._text = ""
        """All of it, until it is sure to be a call."""
        self._name = ""
        self._values = Values()
        self._failed = False

    def feed(self, text: str, *, final: bool) -> list[Call | str]:
        """What `text` adds: pieces of the call, or as text what turned out to be none."""
        self._text += text if not self.begun else ""
        self.rest += text
        if not self._name:
            self._head()
        try:
            if self._name and not self._failed:
                self.rest = self._values.read(self.rest)
        except ValueError:
            self.rest, self._failed = self._values.rest, True
        found = list(filter(None, [self._call()]))
        return found + self._end(final=final)

    def _head(self) -> None:
        if head := HEAD.match(self.rest):
            self._name, self.rest = head[1], self.rest[head.end() :]
        self._failed = head is None and ("{" in self.rest or CALL_END in self.rest)

    def _call(self) -> Call | None:
        """What of the arguments has become final."""
        if not self._values.sure or not self._values.json:
            return None
        name = "" if self.begun else self._name
        self.begun, self._text = True, ""
        return Call(name, self._values.taken())

    def _end(self, *, final: bool) -> list[Call | str]:
        """What stands between that and the mark that ends the call; nothing most often."""
        at = self.rest.find(CALL_END) if self._failed or self._values.done else -1
        self.ended = final or at >= 0
        if not self.ended:
            return []
        last, mark = (self.rest[:at], CALL_END) if at >= 0 else (self.rest, "")
        whole, self.rest = self._text, self.rest[len(last + mark) :]
        if not self.begun:
            return [CALL_BEGIN + whole[: len(whole) - len(self.rest)]]
        if self._values.done:
            last = last[: len(last) - held(last, (CALL_END,))].strip()
            return [last] if last else []
        return [Call("", last)] if last and self._failed else []


class Values:
    """Turns an object in Gemma's spelling into JSON, while it comes.

    `json`: what has become final and was not taken; `rest`: what was not read; `sure`: a first value was read.
    """

    def __init__(self) -> None:
        self.json = self.rest = ""
        self.done = self.sure = False
        self._at = 0
        self._ends: list[str] = []
        """Of the objects and lists that are open, the last one innermost."""
        self._empty = False
        """Nothing was read yet in the innermost."""
        self._state: Callable[[], str | None] = self._value
        """Reads what is expected next; None where it needs more for that."""
        self._then = self._state

    def read(self, text: str) -> str:
        """Go on with `text`; returns what must wait for more, or follows the end.

        Raises:
            ValueError: this is not the spelling; `rest` is where.
        """
        self.rest, self._at = text, 0
        try:
            while not self.done and (part := self._state()) is not None:
                self.json += part
        finally:
            self.rest = self.rest[self._at :]
        return self.rest

    def taken(self) -> str:
        json, self.json = self.json, ""
        return json

    def _next(self) -> str:
        """The next character that is no blank; empty where none is there yet."""
        while self._at < len(self.rest) and self.rest[self._at].isspace():
            self._at += 1
        return self.rest[self._at : self._at + 1]

    def _value(self) -> str | None:
        mark = self._next()
        if mark in ("{", "["):
            return self._open(mark)
        if mark == "]" and self._empty and self._ends[-1] == mark:
            return self._close()
        return self._scalar(BARE, self._after) if mark else None

    def _key(self) -> str | None:
        mark = self._next()
        if mark == "}" and self._empty:
            return self._close()
        return self._scalar(KEY, self._colon) if mark else None

    def _colon(self) -> str | None:
        mark = self._next()
        if mark and mark != ":":
            raise ValueError("no colon")
        return self._step(": ", self._value) if mark else None

    def _after(self) -> str | None:
        mark = self._next()
        if mark == self._ends[-1]:
            return self._close()
        if mark and mark != ",":
            raise ValueError("no comma")
        return self._step(", ", self._key if self._ends[-1] == "}" else self._value) if mark else None

    def _step(self, json: str, state: Callable[[], str | None]) -> str:
        """Over one character."""
        self._at += 1
        self._empty, self._state = False, state
        return json

    def _open(self, mark: str) -> str:
        if len(self._ends) > DEPTH:
            raise ValueError("nested too deeply")
        self._ends.append("}" if mark == "{" else "]")
        self._step(mark, self._key if mark == "{" else self._value)
        self._empty = True
        return mark

    def _close(self) -> str:
        mark = self._ends.pop()
        self.sure, self.done = True, not self._ends
        return self._step(mark, self._after)

    def _scalar(self, form: re.Pattern[str], then: Callable[[], str | None]) -> str | None:
        """A key or a value that holds no others; `then`: what comes after it."""
        self._then, value = then, then == self._after
        if self.rest.startswith(QUOTE, self._at):
            self._at += len(QUOTE)
            self._state, self.sure = self._string, self.sure or value
            return '"'
        if QUOTE.startswith(self.rest[self._at :]):
            return None
        quoted = self.rest[self._at] == '"'
        found = (QUOTED if quoted else form).match(self.rest, self._at)
        if not quoted and (found is None or self.rest.startswith(CALL_END, found.end())):
            raise ValueError("no value, or not ended")
        if found is None or (found.end() == len(self.rest) and not quoted):
            return None
        word = json.loads(found[0], strict=False) if quoted else found[0].strip()
        self._at, self._empty, self._state = found.end(), False, then
        self.sure = self.sure or value
        # Half a character can be spelled between JSON's quotes, and in no other way be passed on.
        return json.dumps(plain(word) if value and not quoted else word, ensure_ascii=quoted)

    def _string(self) -> str | None:
        """As much as there is of what stands between quotes."""
        end = self.rest.find(QUOTE, self._at)
        if end < 0:
            end = len(self.rest) - held(self.rest[self._at :], (QUOTE,))
            text, self._at = self.rest[self._at : end], end
            return _inside(text) or None
        text, self._at = self.rest[self._at : end], end + len(QUOTE)
        self._empty, self._state = False, self._then
        return _inside(text) + '"'


def _inside(text: str) -> str:
    """A text as it stands between JSON's quotes."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def plain(word: str) -> Any:
    """What a bare word says: a number, true, false, nothing, or itself."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    if len(word) > LONGEST_NUMBER or not NUMBER.fullmatch(word) or re.match(r"-?0\d", word):
        return word
    number = json.loads(word)
    return word if isinstance(number, float) and not math.isfinite(number) else number
