"""How a token is chosen from scores: what a request may ask for, and the distribution that this gives."""

from __future__ import annotations

import math
from typing import NamedTuple

from advisor.errors import UsageError

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
        for token, bias in self.logit_bias:
            if not 0 <= token < vocabulary:
                raise UsageError(f"logit_bias names token {token}; the model has tokens 0 to {vocabulary - 1}")
            if math.isnan(bias) or bias == math.inf:
                raise UsageError(f"logit_bias of token {token} is {bias}, not a number that can be added")
