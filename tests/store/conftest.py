"""A fake Hub that holds the demo pair under the catalogue's names, and an empty home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor.files import download
from advisor.files.store import Wanted
from tests.fakes.hub import Hub, serve

DEMO = Path(__file__).parents[2] / "profiles" / "demo"
REPO = "unsloth/gemma-4-demo-it-qat-GGUF"
TARGET = "gemma-4-demo-it-qat-UD-Q4_K_XL.gguf"
DRAFTER = "mtp-gemma-4-demo-it.gguf"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's own is seen or touched."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BACKOFF_S", 0.01)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, target: bytes, drafter: bytes) -> Iterator[Hub]:
    with serve() as made:
        made.add(REPO, **{TARGET: target, DRAFTER: drafter})
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture(scope="session")
def target() -> bytes:
    return (DEMO / "demo.gguf").read_bytes()


@pytest.fixture(scope="session")
def drafter() -> bytes:
    return (DEMO / "demo-drafter.gguf").read_bytes()


@pytest.fixture(scope="session")
def width() -> int:
    from advisor.files import gguf

    return gguf.read(DEMO / "demo.gguf").embedding_length


@pytest.fixture
def wanted(target: bytes, drafter: bytes, width: int) -> tuple[Wanted, Wanted]:
    """The pair, as a catalogue would name it."""
    return (
        Wanted(role="target", repo=REPO, file=TARGET, size=len(target), width=width),
        Wanted(role="drafter", repo=REPO, file=DRAFTER, size=len(drafter), width=width),
    )
