"""Nothing of the user's is read or changed: sessions, measurements and settings have folders of their own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CONFIG"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(f"GEMMA_ADVISOR_{name}", str(tmp_path / name.lower()))
