"""Nothing grows with the tokens that were generated."""

from __future__ import annotations

import psutil
import pytest

from backends.native.depth import AUTO
from backends.native.engine import Engine
from backends.native.sampling import Sampling
from tests.engine.conftest import FULL

pytestmark = pytest.mark.engine

GROWTH = 2 << 20
"""Bytes that a process may differ by without having grown."""


def generate(engine: Engine, count: int) -> None:
    """So many tokens, in answers of all kinds."""
    kinds = [(0, Sampling()), (3, Sampling()), (AUTO, Sampling()), (AUTO, Sampling(1.0, 40, 0.95, 0.02, 1.1))]
    given = index = 0
    while given < count:
        drafts, sampling = kinds[index % len(kinds)]
        prompt = [2, *((index + 31 * i) % 360 + 6 for i in range(20))]
        rounds = engine.generate(prompt, draft_tokens=drafts, max_tokens=500, sampling=sampling)
        given += sum(len(found.tokens) for found in rounds)
        index += 1


def test_memory_stays_where_it_was(worst: Engine) -> None:
    process = psutil.Process()
    generate(worst, 3000)
    before = process.memory_info().rss
    generate(worst, 20_000 if FULL else 4000)
    assert process.memory_info().rss - before < GROWTH
