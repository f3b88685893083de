"""Header-true files of the five sizes, written once: each occupies a few kB of disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from advisor.knowledge.catalog import Catalog, load
from tests.bench.memory import Pair, write_pair
from tests.tools.allocations import children


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load()


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> dict[str, Pair]:
    """By size, in Q4_0 throughout, as Unsloth's QAT files are."""
    folder = tmp_path_factory.mktemp("headers")
    return {model.id: write_pair(folder, model, "Q4_0", pure=True) for model in catalog.models.values()}


@pytest.fixture(scope="session")
def ask() -> Iterator[Callable[..., dict[str, Any]]]:
    """Asks llama.cpp, in a child process, what it allocates."""
    with children() as asking:
        yield asking
