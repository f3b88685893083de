"""Pairs whose drafter is never right, or always: wide enough that decoding takes longer than everything around it."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np

from tests.engine import random_pair
from tests.engine.random_pair import Pair, Shape, Writer

SHAPE = Shape(width=512, ffn=2048, heads=4, sliding=(True, True, True, False, True, True))
LETTER = "a"
"""What the constant pair says, for ever."""


class Constant(Writer):
    """As random, but the answer is known: nothing is added to what enters the layers, every token enters as the same
    vector, and the head knows that vector under one letter only. All the work is done all the same.

    Weights are 32-bit numbers: reading them takes so much longer than multiplying that further rows are cheap on any
    processor, also for a single thread, and being right pays."""

    def matrix(self, name: str, columns: int, rows: int, *, zero: tuple[int, ...] = ()) -> None:
        part = name.rpartition(".")[2]
        values = self.random.normal(0, 0.08, (rows, columns)).astype(np.float32)
        target = self.out.arch == "gemma4"
        letter = random_pair.vocabulary()[0].index(LETTER)
        if part in ("attn_output", "ffn_down", "proj"):
            values[:] = 0
        elif name == "token_embd" and target:
            values[:] = 1.0
        elif name in {"output", "token_embd"}:
            values[:] = 0
            values[letter] = 1.0
        elif name.startswith("nextn."):
            values[:] = 1.0 / columns
        self.out.add_tensor(f"{name}.weight", values)


def never_right(folder: Path) -> Pair:
    """Random weights in both."""
    pair = Pair(folder / "never.gguf", folder / "never-drafter.gguf")
    random_pair.write_target(pair.target, SHAPE, endless=True)
    random_pair.write_drafter(pair.drafter, SHAPE.width)
    return pair


def always_right(folder: Path) -> Pair:
    """Both say the same letter for ever."""
    pair = Pair(folder / "always.gguf", folder / "always-drafter.gguf")
    with mock.patch.object(random_pair, "Writer", Constant):
        random_pair.write_target(pair.target, SHAPE, endless=True)
        random_pair.write_drafter(pair.drafter, SHAPE.width)
    return pair
