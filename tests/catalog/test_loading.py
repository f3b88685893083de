"""Loading is cheap: in time, and in what it imports."""

from __future__ import annotations

import subprocess
import sys
import time

from advisor.catalog import load, load_folder

HEAVY = ("textual", "llama_cpp", "ollama", "huggingface_hub", "rich", "numpy", "httpx")


def test_loading_is_fast() -> None:
    took = []
    for _ in range(5):
        load_folder.cache_clear()
        start = time.perf_counter()
        load()
        took.append(time.perf_counter() - start)
    assert min(took) < 0.06


def test_loaded_once() -> None:
    assert load() is load()


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, advisor.catalog; advisor.catalog.load(); print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
