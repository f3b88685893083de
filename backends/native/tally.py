"""Counting: what a request, and the server so far, generated, drafted and accepted."""

from __future__ import annotations

from itertools import accumulate

from advisor.machine import Record
from backends.native.engine import Round


class Timings(Record, frozen=True, kw_only=True):
    """Of one request, named as llama-server names them; milliseconds, tokens and tokens per second.

    `cache_n`: tokens of the prompt that were in the cache; `prompt_n`: those that were read.
    `predicted_per_second` is of decoding alone: the first token belongs to the prompt. `accepted_per_position`: of the
    rounds that drafted a first, second, ... token, the share in which it was right. `draft_lengths`: rounds that
    drafted nothing, one token, two, ...; `draft_tokens`: what was asked for, or where lengths adapt the one used most.
    """

    cache_n: int = 0
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float
    draft_n: int
    draft_n_accepted: int
    accepted_per_position: tuple[float, ...]
    draft_tokens: int
    draft_lengths: tuple[int, ...] = ()


def count(rounds: list[int], size: int, more: int = 1) -> None:
    """`more` rounds of this size."""
    if size >= len(rounds):
        rounds += [0] * (size + 1 - len(rounds))
    rounds[size] += more


def beyond(rounds: list[int]) -> list[int]:
    """How many rounds were larger than each size."""
    return list(accumulate(reversed(rounds[1:])))[::-1]


class Tally:
    """Adds up rounds."""

    def __init__(self) -> None:
        self.tokens = self.drafted = self.accepted = 0
        self.lengths: list[int] = []
        """Rounds by the length of their draft, after the first token, which needs none."""
        self.hits: list[int] = []
        """Rounds by how many of their guesses were right."""
        self.seconds = 0.0
        """Spent decoding, without prompts."""

    def add(self, found: Round) -> None:
        drafted, accepted = found.drafted, found.accepted
        if self.tokens:
            count(self.lengths, drafted)
            count(self.hits, accepted)
            self.drafted += drafted
            self.accepted += accepted
        self.tokens += len(found.tokens)

    def merge(self, other: Tally) -> None:
        """Add a request to a server's tally."""
        self.tokens += other.tokens
        self.drafted += other.drafted
        self.accepted += other.accepted
        self.seconds += other.seconds
        for mine, more in ((self.lengths, other.lengths), (self.hits, other.hits)):
            for size, rounds in enumerate(more):
                count(mine, size, rounds)

    @property
    def offered(self) -> list[int]:
        """How often a token was guessed at each position of a draft."""
        return beyond(self.lengths)

    @property
    def right(self) -> list[int]:
        """How often that guess was right, and all before it."""
        found = beyond(self.hits)
        return found + [0] * (len(self.lengths) - 1 - len(found))

    @property
    def accepted_per_position(self) -> tuple[float, ...]:
        return tuple(round(right / offered, 4) for right, offered in zip(self.right, self.offered, strict=True))

    @property
    def per_second(self) -> float:
        """Decoded tokens per second; 0 where only the first token came."""
        return max(0, self.tokens - 1) / self.seconds if self.seconds > 0 else 0.0

    @property
    def usual(self) -> int:
        """The draft length used most."""
        return max(range(len(self.lengths)), key=self.lengths.__getitem__, default=0)

    @property
    def so_far(self) -> dict[str, float]:
        """What changes while an answer comes; names as in `Timings`."""
        return {
            "predicted_n": self.tokens,
            "predicted_per_second": self.per_second,
            "draft_n": self.drafted,
            "draft_n_accepted": self.accepted,
        }

    def timings(self, *, prompt: int, prompt_seconds: float, draft_tokens: int, cached: int = 0) -> Timings:
        return Timings(
            cache_n=cached,
            prompt_n=prompt,
            prompt_ms=1000 * prompt_seconds,
            prompt_per_second=prompt / prompt_seconds if prompt_seconds > 0 else 0.0,
            predicted_n=self.tokens,
            predicted_ms=1000 * self.seconds,
            predicted_per_second=self.per_second,
            draft_n=self.drafted,
            draft_n_accepted=self.accepted,
            accepted_per_position=self.accepted_per_position,
            draft_tokens=draft_tokens if draft_tokens >= 0 else self.usual,
            draft_lengths=tuple(self.lengths),
        )
