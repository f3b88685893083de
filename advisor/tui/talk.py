"""A conversation: what was said, how the next answer is asked for, and the answer that is on its way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from advisor.commands.chat import SAMPLING, Pace
from advisor.running.client import Done, Text, Timings, joined
from advisor.running.order import ADAPTS
from advisor.running.sessions import Session
from advisor.tui.deed import Deed
from backends.base import Backend

AUTO = "auto"
GREEDY = 0.0
RATES = 240
"""How many speeds are remembered for the curve."""
EVERY_S = 0.1
"""Between two of them."""


@dataclass
class Said:
    """One question and its answer. `ended`: why it is not whole, or None while it comes; empty where it is."""

    question: str
    answer: str = ""
    thought: str = ""
    thought_s: float = 0.0
    ended: str | None = None
    timings: Timings | None = None
    asked_at: float = field(default_factory=time.monotonic)

    def add(self, pieces: Sequence[Text | Done]) -> str:
        """Keep what came; the part of it that belongs to the answer."""
        text = "".join(one.text for one in pieces if isinstance(one, Text) and not one.thought)
        thought = "".join(one.text for one in pieces if isinstance(one, Text) and one.thought)
        self.timings = next((one.timings for one in reversed(pieces) if one.timings is not None), self.timings)
        self.answer += text
        if thought:
            self.thought += thought
            self.thought_s = time.monotonic() - self.asked_at
        return text


@dataclass
class Talk:
    """`drafts`: tokens drafted a round, as requests say it; None: as the server does. `temperature`: 0 is greedy."""

    said: list[Said] = field(default_factory=list)
    drafts: int | None = None
    temperature: float = SAMPLING["temperature"]
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=RATES))
    """Tokens per second as the answers came."""

    def messages(self, question: str) -> list[dict[str, str]]:
        """The conversation with one more question; thoughts are left out, as Gemma wants it."""
        found = []
        for one in self.said:
            if one.answer:
                found += [{"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer}]
        return [*found, {"role": "user", "content": question}]

    @property
    def options(self) -> dict[str, Any]:
        """Fields of the request."""
        sampling = {"temperature": 0} if self.temperature == GREEDY else {**SAMPLING, "temperature": self.temperature}
        drafts = {} if self.drafts is None else {"draft_tokens": AUTO if self.drafts == ADAPTS else self.drafts}
        return {**sampling, **drafts}


class Reply(Deed):
    """One answer, in pieces."""

    def __init__(self, backend: Backend, session: Session, messages: list[dict[str, str]], options: dict[str, Any]):
        super().__init__()
        self.pieces: deque[Text | Done] = deque()
        """What came and was not taken yet."""
        self.pace = 0.0
        """Pieces per second, for servers that count at the end only."""
        self.heard_at = time.monotonic()
        self._backend, self._session = backend, session
        self._messages, self._options = messages, options

    def work(self) -> None:
        pace = Pace()
        with joined(self._backend, self._session.endpoint) as client:
            live = {"timings_per_token": True} if client.counts_live else {}
            events = client.chat(self._messages, **self._options, **live)
            try:
                for event in events:
                    self.check()
                    self.pace, self.heard_at = pace.step(), time.monotonic()
                    self.pieces.append(event)
            finally:
                # Closing the stream tells the server to stop.
                events.close()  # type: ignore[attr-defined]

    @property
    def silent_s(self) -> float:
        """How long nothing has come."""
        return time.monotonic() - self.heard_at

    def taken(self) -> list[Text | Done]:
        """What came since the last time."""
        found = []
        while self.pieces:
            found.append(self.pieces.popleft())
        return found


class Clock:
    """Says when the next speed is due, so that the curve has one scale however often it is looked at."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + EVERY_S
        return True
