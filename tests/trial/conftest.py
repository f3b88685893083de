"""A state folder for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor import paths
from tests.launch.conftest import llama_server, state

__all__ = ["llama_server", "state"]


@pytest.fixture
def store(state: Path) -> Iterator[Path]:
    """Where measurements are kept."""
    assert paths.state_folder() == state
    yield state / "measurements.jsonl"
