"""Prefix reuse: how much of a prompt the cache holds already, and how far back it can go.

The sliding layers keep their last window and a micro-batch of cells, no more. Going back further than that takes
either a saved copy of such a window (a checkpoint) or reading the prompt again. Thoughts make going back the rule: they
are dropped from a conversation's history, so that every next prompt parts from the cache where the last answer began.
A checkpoint is therefore taken shortly before the end of each long prompt: a little before, because what asks for the
model's turn is not always part of the history either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from backends.native.library import Context

TAIL = 16
"""Tokens at a prompt's end that the next turn may spell otherwise."""
MOST = 4
"""Checkpoints: the last turns of a conversation."""
MOST_BYTES = 512 << 20
SHARE = 8
"""Part of the free memory that checkpoints may take: they save time only."""


class Checkpoint(NamedTuple):
    """The sliding layers' cells after `length` tokens."""

    length: int
    cells: npt.NDArray[np.uint8]


def common(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens at the beginning of both are the same."""
    pairs = zip(cached, prompt, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(cached), len(prompt)))


class Reuse:
    """Takes a context's cache back to where a new prompt goes on.

    Args:
        context: of the target.
        most_bytes: of all checkpoints together.
    """

    def __init__(self, context: Context, most_bytes: int = MOST_BYTES) -> None:
        self.checkpoints: list[Checkpoint] = []
        self._context = context
        self._most_bytes = most_bytes

    def back(self, cached: Sequence[int], prompt: Sequence[int]) -> int:
        """Make the cache hold as much of `prompt` as it can; returns how many tokens, at most all but the last."""
        wanted = min(common(cached, prompt), len(prompt) - 1)
        self.checkpoints = [point for point in self.checkpoints if point.length <= wanted]
        if wanted == len(cached):
            return wanted
        if wanted and self._context.first <= max(0, wanted - self._context.window + 1):
            self._context.keep(wanted)
            return wanted
        while self.checkpoints:
            point = self.checkpoints[-1]
            if self._context.restore(point.cells):
                self._context.keep(point.length)
                return point.length
            self.checkpoints.pop()
        self._context.clear()
        return 0

    def wants(self, prompt: Sequence[int], held: int) -> int:
        """Where in reading `prompt` a checkpoint belongs, 0 for nowhere: what is quickly read again needs none."""
        at = len(prompt) - TAIL
        return at if self._context.window and at > max(held, self._context.window) else 0

    def take(self, length: int) -> None:
        """Save the cells of now, after `length` tokens, where memory allows; the oldest give way."""
        size = self._context.saved_bytes
        most = min(self._most_bytes, psutil.virtual_memory().available // SHARE)
        while self.checkpoints and (len(self.checkpoints) >= MOST or self._bytes + size > most):
            self.checkpoints.pop(0)
        if size <= most:
            self.checkpoints.append(Checkpoint(length, self._context.save()))

    @property
    def _bytes(self) -> int:
        return sum(point.cells.nbytes for point in self.checkpoints)
