"""Tool calls as Gemma 4 writes them, into OpenAI's.

    <|tool_call>call:weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>

Strings stand between quotes that no text contains, so nothing in them is escaped; keys are bare. Models err: JSON's own
quotes and bare words are read too, and what cannot be read is passed on as text by whoever called.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

CALL_BEGIN, CALL_END = "<|tool_call>", "<tool_call|>"
QUOTE = '<|"|>'
DEPTH = 64
HEAD = re.compile(r"\s*call:\s*([A-Za-z0-9_.:/-]+?)\s*(?=\{)")
BARE = re.compile(r"[^,\[\]{}]+")
KEY = re.compile(r"[^:,\[\]{}]+")
WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
LONGEST_NUMBER = 300
"""Characters; beyond that it is a text that happens to have digits only."""


class Call(NamedTuple):
    """A tool call. `arguments`: a JSON object as text, as OpenAI has it."""

    name: str
    arguments: str


def closed(body: str) -> bool:
    """Whether no string is open at the end of `body`: an end mark inside a string is text."""
    return body.count(QUOTE) % 2 == 0


def parse(body: str) -> Call | None:
    """The call that stands between the marks; None where it is none."""
    head = HEAD.match(body)
    if head is None:
        return None
    reader = Values(body, head.end())
    try:
        value = reader.value(0)
        reader.blank()
    except ValueError:
        return None
    if reader.at < len(body):
        return None
    return Call(head[1], json.dumps(value, ensure_ascii=False))


class Values:
    """Reads values from `at` on; ValueError where there is none."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at

    def blank(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, mark: str) -> bool:
        """Step over `mark`, if it comes next."""
        self.blank()
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) * found
        return found

    def value(self, depth: int) -> Any:
        if depth > DEPTH:
            raise ValueError("nested too deeply")
        if self.take("{"):
            pairs: dict[str, Any] = {}
            self._items("}", lambda: pairs.update([self._pair(depth)]))
            return pairs
        if self.take("["):
            values: list[Any] = []
            self._items("]", lambda: values.append(self.value(depth + 1)))
            return values
        found = self._string()
        return self._bare() if found is None else found

    def _items(self, end: str, one: Callable[[], None]) -> None:
        if self.take(end):
            return
        one()
        while not self.take(end):
            if not self.take(","):
                raise ValueError("no comma")
            one()

    def _pair(self, depth: int) -> tuple[str, Any]:
        key = self._string()
        if key is None:
            key = self._match(KEY)
        if not self.take(":"):
            raise ValueError("no colon")
        return key, self.value(depth + 1)

    def _string(self) -> str | None:
        if self.take(QUOTE):
            end = self.text.find(QUOTE, self.at)
            if end < 0:
                raise ValueError("no closing quote")
            found, self.at = self.text[self.at : end], end + len(QUOTE)
            return found
        if self.take('"'):
            text, self.at = json.decoder.scanstring(self.text, self.at, False)  # type: ignore[attr-defined]
            return str(text)
        return None

    def _match(self, form: re.Pattern[str]) -> str:
        found = form.match(self.text, self.at)
        if found is None or not found[0].strip():
            raise ValueError("nothing here")
        self.at = found.end()
        return found[0].strip()

    def _bare(self) -> Any:
        word = self._match(BARE)
        if word.lower() in WORDS:
            return WORDS[word.lower()]
        if len(word) > LONGEST_NUMBER or not NUMBER.fullmatch(word):
            return word
        number = json.loads(word) if not re.match(r"-?0\d", word) else word
        return word if isinstance(number, float) and not math.isfinite(number) else number
