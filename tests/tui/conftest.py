"""Nothing of the user's is read or changed: sessions, measurements and settings have folders of their own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="package", autouse=True)
def _seldom_collecting() -> Iterator[None]:
    """A third of these tests' time would go into looking for garbage among all that is imported."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CONFIG"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(f"GEMMA_ADVISOR_{name}", str(tmp_path / name.lower()))
