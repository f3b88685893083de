"""Simulated machines whose truth is known: what each draft length costs, how often guesses are right, and the noise."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

KINDS = ("code", "edit", "structured", "mathematics", "questions", "summary", "translation", "story", "chat")


@dataclass
class Machine:
    """`costs`: of a round by rows, in plain steps; `step`: of a drafter's step; `right`: acceptance of the first guess
    by kind; `noise`: as a logarithm; `start`: that of a start, where each length is one."""

    seed: int
    costs: list[float]
    step: float
    right: dict[str, float]
    decay: float
    prefill: float
    noise: float
    pauses: float
    drift: float
    start: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.clock = 0.0
        self.phase = self.random.uniform(0, 2 * math.pi)

    def truth(self, kind: str, length: int) -> float:
        """Seconds of an answer of 200 tokens without noise."""
        reached, tokens = 1.0, 1.0
        for place in range(length):
            reached *= self.right[kind] * self.decay**place
            tokens += reached
        return self.prefill + 200 * (self.costs[length] + length * self.step) / tokens * 0.03

    def overall(self, length: int) -> float:
        """Mean logarithm over all kinds."""
        return sum(math.log(self.truth(kind, length)) for kind in self.right) / len(self.right)

    def ask(self, kind: str, length: int, start: float = 0.0) -> float:
        true = self.truth(kind, length)
        self.clock += true
        slow = 1 + self.drift * math.sin(self.clock / 200 + self.phase)
        pause = self.random.uniform(1.2, 3.0) if self.random.random() < self.pauses else 1.0
        return true * slow * pause * math.exp(self.random.gauss(0, self.noise) + start)

    def best(self) -> int:
        return min(range(9), key=self.overall)


def machine(seed: int, *, losing: bool = False) -> Machine:
    """A machine; `losing`: no draft length is as fast as plain decoding, for all kinds together, though some come
    near."""
    chance = random.Random(seed)
    slope = chance.choice([0.02, 0.1, 0.2, 0.4, 0.8]) * chance.uniform(0.7, 1.4)
    costs = [1 + slope * rows for rows in range(9)]
    if chance.random() < 0.3:  # kernels that take four rows at a time: four cost less than two
        costs = [1.0, 1.6, 1.86, 1.4, 2.0, 2.2, 2.3, 2.35, 3.0]
    level = chance.choice([0.0, 0.3, 0.5, 0.7, 0.85, 0.97])
    found = Machine(
        seed=seed,
        costs=costs,
        step=chance.uniform(0.01, 0.3),
        right={kind: min(1.0, max(0.0, level + chance.uniform(-0.2, 0.2))) for kind in KINDS},
        decay=chance.uniform(0.85, 1.0),
        prefill=chance.uniform(0.0, 2.0),
        noise=chance.uniform(0.005, 0.06),
        pauses=chance.choice([0.0, 0.02, 0.05]),
        drift=chance.choice([0.0, 0.1, 0.3]),
        start=chance.uniform(0, 0.01),
    )
    if not losing:
        return found
    plain, best = found.overall(0), min(found.overall(length) for length in range(1, 9))
    excess = chance.choice([0.002, 0.01, 0.05, 0.3])
    while best - plain < excess:  # dearer verification, until it loses by about so much
        found.costs = [found.costs[0], *(cost * 1.01 for cost in found.costs[1:])]
        best = min(found.overall(length) for length in range(1, 9))
    return found
