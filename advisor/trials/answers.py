"""What a trial asks for, and of whom: sessions that answer, and what came."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from advisor.machine import Record
from advisor.trials.prompts import Prompt

ADAPTS = -1
"""A length that the backend chooses from round to round."""
TELLING_TOKENS = 16
"""Of an answer, from which on its speed means something: several may come at once."""


class Answered(Record, frozen=True, kw_only=True):
    """One answer as it came. `tokens`: as the server counts them; `first_s`: until the first of them; `seconds`: until
    the last; `depth_tokens`: of the prompt; `read_tokens`: those of it that were not in a cache. `positions`: shares of
    guesses that were right, by place; `rounds`: in which anything was drafted, where known; `tries`: how often it was
    asked for until it was timed."""

    tokens: int
    first_s: float
    seconds: float
    tokens_per_s: float
    depth_tokens: int
    read_tokens: int
    drafted: int = 0
    accepted: int = 0
    positions: tuple[float, ...] = ()
    rounds: int = 0
    tries: int = 1


class Asked(Protocol):
    """A session that answers."""

    def ask(self, prompt: Prompt, length: int, tokens: int, *, cold: bool) -> Answered:
        """One greedy answer of at most so many tokens. `cold`: nothing of the prompt may come from a cache.

        Raises:
            RuntimeFailed: the server failed, or its answers cannot be timed.
        """
        ...

    def memory_bytes(self) -> int | None:
        """What its process holds."""
        ...

    def positions(self) -> tuple[float, ...]:
        """Acceptance by position since the start, where answers do not tell."""
        ...


class Opener(Protocol):
    """Where sessions are from. `per_request`: the length can change from one answer to the next; `adapts`: the backend
    has lengths of its own choice."""

    per_request: bool
    adapts: bool
    context_tokens: int

    def open(self, length: int) -> AbstractContextManager[Asked]:
        """A session that drafts so many tokens, where they are fixed at the start; ended with the block."""
        ...
