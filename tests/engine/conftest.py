"""Pairs, engines and servers for the engine's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.base import Endpoint, Model, Options
from backends.native import Native
from backends.native.engine import Engine
from backends.native.library import api
from backends.native.threads import Threads
from tests.engine import random_pair
from tests.engine.random_pair import Pair

GGML_TYPE_F32 = 0
FULL = bool(os.environ.get("ADVISOR_FULL"))
"""Whether tests that come in a short and a long version run the long one."""
DEMO = Path(__file__).parents[2] / "profiles" / "demo"


@pytest.fixture(scope="session")
def worst_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Random weights: a drafter that is never right."""
    return random_pair.write(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def endless_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Random weights, and an answer that only its limit ends."""
    return random_pair.write(tmp_path_factory.mktemp("endless"), endless=True)


@pytest.fixture(scope="session")
def demo_pair() -> Pair:
    """The embedded pair."""
    return Pair(DEMO / "demo.gguf", DEMO / "demo-drafter.gguf")


class Pinned(Threads):
    """Always the same number: with another, a single row is added up differently and near-ties may fall otherwise."""

    def record(self, rows: int, seconds: float) -> int:
        return self.count


def pinned(pair: Pair, **options: int) -> Engine:
    made = Engine(pair.target, pair.drafter, **{"context_tokens": 2048, **options})  # type: ignore[arg-type]
    made.target.threads = Pinned(made.target.threads.cores)
    return made


def engine(pair: Pair, **options: int) -> Iterator[Engine]:
    made = pinned(pair, **options)
    yield made
    made.close()


@pytest.fixture(scope="session")
def worst(worst_pair: Pair) -> Iterator[Engine]:
    """Never right, small micro-batches, and one thread: then a row alone and among others gives the same to the bit."""
    yield from engine(worst_pair, micro_batch=48, threads=1)


@contextmanager
def exact_cache() -> Iterator[None]:
    """Contexts that are made meanwhile keep their cache in 32 bits."""
    library = api()
    default = library.llama_context_default_params

    def exact() -> object:
        params = default()
        params.type_k = params.type_v = GGML_TYPE_F32
        return params

    library.llama_context_default_params = exact  # type: ignore[attr-defined]
    try:
        yield
    finally:
        library.llama_context_default_params = default  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def precise_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return random_pair.write(tmp_path_factory.mktemp("precise"), precise=True)


@pytest.fixture(scope="session")
def precise(precise_pair: Pair) -> Iterator[Engine]:
    """All in 32 bits: what is left of rounding is far smaller than the effect of one lost token."""
    with exact_cache():
        made = pinned(precise_pair, micro_batch=48)
    yield made
    made.close()


@pytest.fixture(scope="session")
def demo(demo_pair: Pair) -> Iterator[Engine]:
    """One thread: beside other programs, threads that wait for each other take many times as long."""
    yield from engine(demo_pair, threads=1)


@pytest.fixture(scope="module")
def backend() -> Native:
    return Native()


@pytest.fixture(scope="module")
def endpoint(backend: Native, endless_pair: Pair) -> Iterator[Endpoint]:
    """A server of the endless pair."""
    model = Model(
        name="endless",
        target=endless_pair.target,
        drafter=endless_pair.drafter,
        draft_tokens=3,
        context_tokens=65536,
    )
    started = backend.start(backend.plan(model, Options()))
    yield started
    backend.stop(started)
