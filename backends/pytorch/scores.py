"""Scores as the project's own sampling shapes them, inside Transformers' loops.

Transformers has the same steps in another order, and a penalty without a window. What is said of a request's sampling
must hold whatever computes the answer, so the one implementation is used here too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backends.native.sampling import Sampler, Sampling, distribution


class Shaped:
    """A logits processor: what is left are the tokens that may come, with the logarithms of their probabilities; for a
    greedy answer the scores with bias and penalty.

    Args:
        sampling: of one request.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """`input_ids` [1, T], `scores` [1, vocabulary]; as `transformers.LogitsProcessor`."""
        # A penalty looks at the text so far: a sampler that has seen all of it.
        sampler = Sampler(self._sampling, input_ids[0].tolist() if self._sampling.penalises else ())
        row = sampler.scores(scores[0].float().cpu().numpy())
        if not self._sampling.greedy:
            may = distribution(row, self._sampling)
            row = np.full(len(row), -math.inf, np.float32)
            with np.errstate(divide="ignore"):
                row[may.tokens] = np.log(may.odds)
        return scores.new_tensor(row)[None]
