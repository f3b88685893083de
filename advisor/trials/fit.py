"""Noisy times explained by draft length and visit: least squares, with pauses of the machine cut off."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CUT = 2.5
"""Deviations beyond so many standard deviations are pauses of the machine, and count as this many."""
ROUNDS = 12
LEAST_UNEXPLAINED = 0.01
LEAST_NOISE, UNKNOWN_NOISE = 0.002, 0.5
SUSPECT, WITNESSES = 4.0, 3
"""Deviations beyond so many standard deviations call for so many visits: it takes a second one to see a pause of the
machine, and a third to know which of the two had it."""

Array = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """`effects`: what lengths are worth in each cell; `spread`: by cell, length and length, of which variances of
    differences are made; `noise` without pauses, and its degrees of freedom; `suspects`: by cell and length, whether a
    pause is suspected, and too few visits tell where."""

    effects: Array
    spread: Array
    noise: float
    freedom: float
    suspects: npt.NDArray[np.bool_]
    raw: float
    """The noise with pauses."""


def fitted(times: Array, there: npt.NDArray[np.bool_]) -> Fit:
    """Least squares with pauses cut off.

    Args:
        times: logarithms of seconds by cell, block and length.
        there: which of them were measured.
    """
    weights = there.astype(np.float64)
    in_block = np.maximum(weights.sum(axis=2, keepdims=True), 1)
    # Blocks are taken out of the equations; what is left says nothing of the lengths' common level, hence the inverse.
    matrix = np.einsum("kba,ac->kac", weights, np.eye(times.shape[2])) - np.einsum(
        "kba,kbc->kac", weights, weights / in_block
    )
    spread = np.linalg.pinv(matrix, hermitian=True)
    freedom = _freedom(there)
    share = _unexplained(weights, spread)
    told = share > LEAST_UNEXPLAINED
    cut = np.where(there, times, 0.0)
    for _ in range(ROUNDS):
        centred = (cut - cut.sum(axis=2, keepdims=True) / in_block) * weights
        effects = np.einsum("kac,kbc->ka", spread, centred)
        blocks = ((cut - effects[:, None, :]) * weights).sum(axis=2, keepdims=True) / in_block
        fit = effects[:, None, :] + blocks
        left = np.where(there, times - fit, 0.0)
        if freedom <= 0 or not told.any():
            return Fit(effects, spread, UNKNOWN_NOISE, 0.0, np.zeros(effects.shape, dtype=bool), UNKNOWN_NOISE)
        usual = float(np.median(np.abs(left[told]) / share[told] ** 0.5)) * 1.4826
        scale = max(usual, LEAST_NOISE)
        kept = np.clip(left, -CUT * scale, CUT * scale)
        cut = np.where(there, fit + kept, 0.0)
    noise = max(float(((kept**2).sum() / freedom) ** 0.5), LEAST_NOISE)
    raw = max(float(((left**2).sum() / freedom) ** 0.5), noise)
    far = (np.abs(left) > SUSPECT * scale).any(axis=1) & (there.sum(axis=1) < WITNESSES)
    return Fit(effects, spread, noise, freedom, far, raw)


def _unexplained(weights: Array, spread: Array) -> Array:
    """Of each time, the share of its noise that is left when effects and blocks are taken out (one less its leverage):
    none of a length that was asked once in its cell. What was explained away by fitting says nothing of the noise."""
    count = np.maximum(weights.sum(axis=2, keepdims=True), 1)
    mean = weights / count
    through = np.einsum("kac,kbc->kba", spread, mean)
    own = np.einsum("kaa->ka", spread)[:, None, :]
    block = np.einsum("kba,kba->kb", through, mean)[:, :, None]
    return np.asarray(weights * (1 - 1 / count - own + 2 * through - block), dtype=np.float64)


def _freedom(there: npt.NDArray[np.bool_]) -> float:
    """Measurements less what they explain: in each cell one effect per length and one per block, less one."""
    used = there.any(axis=2).sum(axis=1) + there.any(axis=1).sum(axis=1)
    return float(np.sum(np.where(there.any(axis=(1, 2)), there.sum(axis=(1, 2)) - used + 1, 0)))
