"""Whether drafted decoding gives what plain decoding gives, and what counts as the same.

llama.cpp computes a row alone and the same row among others by different kernels, and the scores differ in their last
digits. Where plain decoding's two best tokens lie closer than that, either is right: a near-tie. Everything else must
be equal. (On the processor, flash attention adds up in 16 bits, and from 512 cells on it splits a single row over the
threads; random weights amplify that. With one thread and without rollbacks nothing differs at all.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from backends.native.acceptance import Draft
from backends.native.drafters import Drafter, Place
from backends.native.engine import Engine
from backends.native.pace import Pace
from backends.native.sampling import Sampler

QUESTIONS = [
    "What is a drafter?",
    "Which model fits 16 GB?",
    "How do I run the 26B with Ollama?",
    "Write a Python function that reverses a string.",
    "hello",
    "Größe, naïve, 日本語, 🙂🚀",
    "1 2 3 4 5 6 7 8 9",
    "a",
]
PROSE = "the model runs on your machine with its drafter and answers in tokens which memory bandwidth makes slow"
WORDS = PROSE.split()


class Verdict(NamedTuple):
    """`ties`: places where the two parted at a near-tie. `wrong`: a place where they parted otherwise, -1 for none."""

    ties: int
    wrong: int
    gap: float = 0.0


class Scripted:
    """A drafter that knows the answer and errs at random: every pattern of acceptance, whatever the model.

    Args:
        answer: the plain answer; beyond its end it goes on with nonsense.
        start: tokens of the prompt.
        errors: share of guesses that are wrong.
    """

    def __init__(self, answer: Sequence[int], start: int, errors: float, seed: int = 0) -> None:
        self.answer, self.start, self.errors = list(answer), start, errors
        self.random = np.random.default_rng(seed)

    def begin(self, text: list[int]) -> None: ...

    def draft(self, place: Place, pace: Pace, sampler: Sampler) -> Draft:
        given = len(place.text) - self.start
        guesses: list[int] = []
        while pace.goes_on() and pace.takes(1 - self.errors):
            at = given + len(guesses)
            right = self.answer[at] if at < len(self.answer) else 7
            guesses.append(right if self.random.random() >= self.errors else 8)
        return Draft(guesses, [None] * len(guesses))

    def close(self) -> None: ...


class Swapped:
    """An engine whose drafter is another for a while."""

    def __init__(self, engine: Engine, drafter: Drafter) -> None:
        self.engine, self.drafter = engine, drafter

    def __enter__(self) -> Engine:
        self.own, self.engine.drafter = self.engine.drafter, self.drafter
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.drafter = self.own


def tokens(engine: Engine, prompt: Sequence[int], drafts: int, limit: int, *, reuse: bool = False) -> list[int]:
    """The answer to `prompt`."""
    rounds = engine.generate(prompt, draft_tokens=drafts, max_tokens=limit, reuse=reuse)
    return [token for found in rounds for token in found.tokens]


def noise(engine: Engine, prompt: Sequence[int], answer: Sequence[int], rows: int) -> float:
    """The largest difference of a score between decoding `answer` one by one, `rows` at a time, and with rollbacks.

    Rolling back lays the cache out differently, and sums are taken in another order.
    """
    target = engine.target
    target.prefill(prompt)
    alone = np.concatenate([target.step([token]).copy() for token in answer])
    target.prefill(prompt)
    together = np.concatenate([target.step(answer[at : at + rows]).copy() for at in range(0, len(answer), rows)])
    target.prefill(prompt)
    back = []
    for token in answer:
        at = target.length
        back.append(target.step([token, *[7] * (rows - 1)])[:1].copy())
        target.keep(at + 1)
    return float(max(np.abs(alone - together).max(), np.abs(alone - np.concatenate(back)).max()))


def reading_noise(engine: Engine, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """The largest difference of a score after reading the prompt whole, in pieces, and as drafting leaves it behind.

    Another program reads it in other pieces, and in a conversation the cache holds what was verified in rows, others
    rolled back, and what was read as the beginning of a longer prompt, by the kernels for many rows: it differs in its
    last digits, and so does every score after it.
    """
    target = engine.target

    def scores(begin: int, rows: int, rejected: int, *, longer: bool = False) -> np.ndarray:
        beyond = max(0, target.context.micro_batch - begin) if longer else 0
        found = target.prefill([*prompt[:begin], *[7] * beyond])
        target.keep(begin)
        for at in range(begin, len(prompt), rows):
            piece = prompt[at : at + rows]
            found = target.step([*piece, *[7] * rejected])[len(piece) - 1 : len(piece)]
            target.keep(at + len(piece))
        assert found is not None
        return np.concatenate([found.copy(), *(target.step([token]).copy() for token in answer)])

    whole = scores(len(prompt), 1, 0)
    others = [
        scores(max(1, len(prompt) // 2), 16, 0),
        *(scores(1, rows, rejected) for rows, rejected in ((2, 1), (3, 2))),
        *(scores(begin, 16, 0, longer=True) for begin in {min(4, len(prompt) - 1), len(prompt) // 2} if begin > 0),
    ]
    return float(max(np.abs(whole - other).max() for other in others))


def gap(engine: Engine, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """How far plain decoding's two best tokens lie apart after `prompt` and `answer`."""
    scores = engine.target.prefill(prompt)
    for token in answer:
        scores = engine.target.step([token])
    assert scores is not None
    second, first = np.partition(scores[-1], -2)[-2:]
    return float(first - second)


def same(
    engine: Engine, prompt: Sequence[int], plain: list[int], drafted: list[int], rows: int, *, foreign: bool = False
) -> Verdict:
    """Compare two answers; after a near-tie, go on with plain decoding from where the drafted answer went.

    Args:
        rows: how many were decoded at a time; the noise is measured for this prompt and these rows, where needed.
        foreign: the second answer is another program's.
    """
    ties = 0
    while plain != drafted:
        at = next((i for i, (a, b) in enumerate(zip(plain, drafted, strict=False)) if a != b), None)
        if at is None:
            return Verdict(ties, min(len(plain), len(drafted)))
        apart = gap(engine, prompt, plain[:at])
        # Each of the two scores may be off by the noise.
        level = noise(engine, prompt, plain[: at + 1], rows)
        if foreign:
            level = max(level, reading_noise(engine, prompt, plain[:at]))
        if apart > 2 * level:
            return Verdict(ties, at, apart)
        ties += 1
        begun = drafted[: at + 1]
        rest = [] if begun[-1] in engine.end else tokens(engine, [*prompt, *begun], 0, max(1, len(plain) - len(begun)))
        plain = [*begun, *rest][: max(len(plain), len(begun))]
        drafted = drafted[: len(plain)] if plain[-1] not in engine.end else drafted
    return Verdict(ties, -1)
