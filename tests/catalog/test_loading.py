"""Loading is cheap: in time, and in what it imports."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import profiles
from advisor.knowledge.catalog import build, load, load_folder

HEAVY = ("textual", "llama_cpp", "ollama", "huggingface_hub", "rich", "numpy", "httpx")


def test_loading_is_fast() -> None:
    """Compiled, it takes a millisecond; from YAML it is thirty times as long."""
    own = Path(next(iter(profiles.__path__)))

    def seconds(loading: Callable[[], object]) -> float:
        load_folder.cache_clear()
        start = time.process_time()
        loading()
        return time.process_time() - start

    load()
    assert min(seconds(load) for _ in range(5)) < seconds(lambda: build(own, "profiles")) / 8


def test_loaded_once() -> None:
    assert load() is load()


def test_nothing_heavy_is_imported() -> None:
    asked = f"[m for m in {HEAVY!r} if m in sys.modules]"
    code = f"import sys; from advisor.knowledge.catalog import load; load(); print({asked})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
