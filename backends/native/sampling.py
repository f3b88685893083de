"""How a token is chosen from scores: what a request may ask for, and the distribution that this gives."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advisor.errors import UsageError

Scores = npt.NDArray[np.float32]
"""One row of scores, shape [vocabulary]."""
BAND = 16.0
"""How far under the best score top-k looks before it looks everywhere."""

PENALTY_WINDOW = 64
"""Tokens that a repetition penalty looks back, where nobody says otherwise; llama.cpp's default."""


class Sampling(NamedTuple):
    """What is done to the scores, in this order, which is llama.cpp's: bias, penalty, top-k, top-p, min-p, temperature.

    So the tokens that may come are the same at every temperature. The defaults choose the most likely token.

    Args:
        temperature: 0 is greedy.
        top_k: only so many of the most likely tokens; 0: all.
        top_p: only the most likely tokens that together have this probability.
        min_p: only tokens with at least this share of the best one's probability.
        repetition_penalty: scores of tokens that came lately are divided by it where positive, multiplied where not.
        penalty_window: how many tokens are lately; -1: all, 0: none.
        logit_bias: (token, what is added to its score); minus infinity forbids it.
        seed: of the random numbers; None: another answer each time.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_window: int = PENALTY_WINDOW
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def plain(self) -> bool:
        """Whether the scores stay as they are: the best token is the model's own."""
        return self.greedy and not self.logit_bias and not self.penalises

    @property
    def penalises(self) -> bool:
        return self.repetition_penalty != 1 and self.penalty_window != 0

    def check(self, vocabulary: int) -> None:
        """Raises UsageError for a setting that makes no sense; the message names it as requests spell it."""
        for name, value, low, high in (
            ("temperature", self.temperature, 0, 100),
            ("top_p", self.top_p, 0, 1),
            ("min_p", self.min_p, 0, 1),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100),
            ("top_k", self.top_k, 0, math.inf),
            ("penalty_window", self.penalty_window, -1, math.inf),
        ):
            if not low <= value <= high:
                limit = f"not between {low:g} and {high:g}" if high < math.inf else f"not at least {low:g}"
                raise UsageError(f"{name} is {value:g}, {limit}")
        if sum(bias == -math.inf for _, bias in self.logit_bias) >= vocabulary:
            raise UsageError("logit_bias forbids every token")
        for token, bias in self.logit_bias:
            if not 0 <= token < vocabulary:
                raise UsageError(f"logit_bias names token {token}; the model has tokens 0 to {vocabulary - 1}")
            if math.isnan(bias) or bias == math.inf:
                raise UsageError(f"logit_bias of token {token} is {bias}, not a number that can be added")


GREEDY = Sampling()


class Distribution(NamedTuple):
    """Tokens that may come, ascending, and the probability of each."""

    tokens: npt.NDArray[np.int64]
    odds: npt.NDArray[np.float64]

    def of(self, token: int) -> float:
        """The probability of `token`."""
        at = int(self.tokens.searchsorted(token))
        return float(self.odds[at]) if at < len(self.tokens) and self.tokens[at] == token else 0.0

    def draw(self, share: float) -> int:
        """The token at `share` (0 to below 1) of the probabilities added up."""
        total = self.odds.cumsum()
        at = int(total.searchsorted(share * total[-1], side="right"))
        return int(self.tokens[min(at, len(self.tokens) - 1)])

    def beyond(self, other: Distribution) -> Distribution:
        """The positive part of this minus `other`, normalised; this one where nothing is left."""
        at = other.tokens.searchsorted(self.tokens).clip(max=len(other.tokens) - 1)
        taken = np.where(other.tokens[at] == self.tokens, other.odds[at], 0.0)
        left = np.maximum(self.odds - taken, 0.0)
        total = left.sum()
        return Distribution(self.tokens, left / total) if total > 0 else self

    def without(self, token: int) -> Distribution:
        """As `beyond` a distribution that has nothing but `token`."""
        left = np.where(self.tokens == token, 0.0, self.odds)
        total = left.sum()
        return Distribution(self.tokens, left / total) if total > 0 else self


class Sampler:
    """Chooses the tokens of one answer.

    Target and drafter draw from random streams of their own, so that what a drafter does never shifts the target's.
    One seed gives one answer as long as files, build, thread count, settings and a fixed draft length are the same.
    Another draft length, or lengths that adapt to measured times, use up the numbers in another order: another answer
    from the same distribution. Greedy answers need no seed and depend on none of this.

    Args:
        context: the prompt; a repetition penalty counts its tokens too.
    """

    def __init__(self, sampling: Sampling = GREEDY, context: Sequence[int] = ()) -> None:
        self.sampling = sampling
        self.greedy, self.plain = sampling.greedy, sampling.plain
        seed = sampling.seed if sampling.seed is None else sampling.seed % (1 << 64)
        target, drafter = np.random.SeedSequence(seed).spawn(2)
        self.random, self.guessing = np.random.default_rng(target), np.random.default_rng(drafter)
        window = sampling.penalty_window if sampling.penalises else 0
        self._lately: deque[int] = deque(context, maxlen=window if window >= 0 else None)
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.int64)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], np.float32)

    def note(self, tokens: Sequence[int]) -> None:
        """These tokens came."""
        self._lately.extend(tokens)

    def scores(self, row: Scores, after: Sequence[int] = ()) -> Scores:
        """The scores with bias and penalty, if `after` came since the last `note`; the row itself without either."""
        sampling = self.sampling
        if not sampling.logit_bias and not sampling.penalises:
            return row
        row = row.copy()
        if len(self._biased):
            np.add.at(row, self._biased, self._bias)
        if sampling.penalises:
            lately = [*self._lately, *after]
            if sampling.penalty_window > 0:
                lately = lately[-sampling.penalty_window :]
            seen = np.unique(np.array(lately, np.int64))
            scores, penalty = row[seen], np.float32(sampling.repetition_penalty)
            row[seen] = np.where(scores > 0, scores / penalty, scores * penalty)
        return row

    def best(self, row: Scores, after: Sequence[int] = ()) -> int:
        """The most likely token."""
        return int(self.scores(row, after).argmax())

    def distribution(self, row: Scores, after: Sequence[int] = ()) -> Distribution:
        """What may come after `after`, by the scores `row`."""
        return distribution(self.scores(row, after), self.sampling)

    def first(self, row: Scores) -> int:
        """A token without any guess."""
        return self.best(row) if self.greedy else self.distribution(row).draw(self.random.random())


def distribution(scores: Scores, sampling: Sampling) -> Distribution:
    """The probabilities by scores that have bias and penalty already; temperature above 0.

    Only the few tokens that can be among the best are ever sorted: a vocabulary has 262,144.
    """
    tokens = _best(scores, sampling.top_k) if 0 < sampling.top_k < len(scores) else np.arange(len(scores))
    chosen = scores[tokens].astype(np.float64)
    chosen -= chosen.max()
    if sampling.top_p < 1 or sampling.min_p > 0:
        odds = np.exp(chosen)
        odds /= odds.sum()
        keep = _nucleus(odds, sampling.top_p) & (odds >= sampling.min_p * odds.max())
        tokens, chosen = tokens[keep], chosen[keep]
    odds = np.exp(chosen / sampling.temperature)
    return Distribution(tokens, odds / odds.sum())


def _best(scores: Scores, count: int) -> npt.NDArray[np.int64]:
    """The `count` highest scores' tokens, ascending."""
    # Where enough lie within a narrow band under the best, the others need no partition.
    near = np.flatnonzero(scores >= scores.max() - BAND)
    if len(near) < count:
        near = np.arange(len(scores))
    found = near if len(near) == count else near[np.argpartition(scores[near], -count)[-count:]]
    return np.sort(found)


def _nucleus(odds: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.bool_]:
    """Which are the fewest that together reach `share`; at least one."""
    # All that are rarer than this come to less than what may be left out, so they are.
    common = np.flatnonzero(odds >= (1 - share) / len(odds))
    common = common[np.argsort(-odds[common], kind="stable")]
    needed = int(odds[common].cumsum().searchsorted(share)) + 1
    keep = np.zeros(len(odds), np.bool_)
    keep[common[:needed]] = True
    return keep
