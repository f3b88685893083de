"""Whether counts fit a distribution."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def tail(square: float, freedom: int) -> float:
    """The probability of a chi-square at least so large: Wilson and Hilferty's approximation."""
    if freedom < 1:
        return 1.0
    share = 2 / (9 * freedom)
    return 0.5 * math.erfc(((square / freedom) ** (1 / 3) - (1 - share)) / math.sqrt(2 * share))


def fit(counts: Numbers, odds: Numbers) -> float:
    """The probability that counts of `odds` differ from them as much as these; rare cells are taken together."""
    expected = odds * counts.sum()
    rare = expected < 5
    if counts[expected == 0].any():
        return 0.0  # what is impossible came
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    return tail(float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1)


def alike(one: Numbers, other: Numbers) -> float:
    """The probability that two rows of counts of one distribution differ as much as these."""
    often = one + other >= 10
    one, other = (np.append(row[often], row[~often].sum()) for row in (one, other))
    both = one + other
    one, other, both = one[both > 0], other[both > 0], both[both > 0]
    shares = one.sum() / both.sum(), other.sum() / both.sum()
    square = ((one - shares[0] * both) ** 2 / (shares[0] * both)).sum()
    square += ((other - shares[1] * both) ** 2 / (shares[1] * both)).sum()
    return tail(float(square), len(both) - 1)
