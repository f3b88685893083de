"""Which drafted tokens the target agrees with, and what it says where it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from backends.native.library import Logits
from backends.native.sampling import Distribution, Sampler


class Draft(NamedTuple):
    """Guesses, and the distribution that each was drawn from: none where it was not drawn but chosen."""

    tokens: list[int]
    odds: list[Distribution | None]


NOTHING = Draft([], [])


def verified(draft: Draft, logits: Logits, sampler: Sampler) -> list[int]:
    """The round's tokens: those of the draft that are right, and one more where there are scores for it.

    Args:
        draft: the guesses.
        logits: the target's scores after the last token and after each guess, shape [guesses + 1, vocabulary]; of a
            guess that is only compared there are none.
    """
    return greedy(draft.tokens, logits) if sampler.plain else sampled(draft, logits, sampler)


def greedy(drafted: Sequence[int], logits: Logits) -> list[int]:
    """The tokens of plain greedy decoding: the agreeing prefix of `drafted`, then the target's own."""
    if len(logits) == 1:
        return [int(logits.argmax())]
    tokens: list[int] = logits.argmax(axis=1).tolist()
    for place, guess in enumerate(drafted):
        if tokens[place] != guess:
            return tokens[: place + 1]
    return tokens


def sampled(draft: Draft, logits: Logits, sampler: Sampler) -> list[int]:
    """Tokens with exactly the distribution of plain sampling: accepted guesses, then one of the target's own."""
    tokens: list[int] = []
    for row, guess, odds in zip(logits, draft.tokens, draft.odds, strict=False):
        if sampler.greedy:
            tokens.append(sampler.best(row, tokens))
        else:
            tokens.append(choose(sampler.distribution(row, tokens), guess, odds, sampler.random.random))
        if tokens[-1] != guess:
            return tokens
    if len(tokens) == len(logits):
        return tokens
    row = logits[len(draft.tokens)]
    if sampler.greedy:
        return [*tokens, sampler.best(row, tokens)]
    return [*tokens, sampler.distribution(row, tokens).draw(sampler.random.random())]


def choose(target: Distribution, guess: int, drafter: Distribution | None, random: Callable[[], float]) -> int:
    """A token of the target's distribution, as often as possible the guess.

    The guess, which came with probability q, is taken with probability min(1, p/q); else one is drawn from the
    normalised positive part of p - q. A guess that was not drawn came with certainty: q is 1 there and 0 elsewhere.
    """
    likely = drafter.of(guess) if drafter is not None else 1.0
    if random() * likely < target.of(guess):
        return guess
    rest = target.beyond(drafter) if drafter is not None else target.without(guess)
    return rest.draw(random())
