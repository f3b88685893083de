"""Model files that are here already: in the Hugging Face cache, and where LM Studio, llama.cpp and Ollama keep theirs.

A file is taken for the one that is wanted by its repository and name; in Ollama's folder, which has neither, by size.
What is found must still be whole: its header is read, and the weights it announces must be there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from advisor import gguf
from advisor.errors import AdvisorError
from advisor.machine import Record

SLACK = 64 << 10
"""Bytes by which two uploads of the same weights differ: their metadata (2 KB for Ollama's copy of Google's E2B)."""
ROUNDED = 1000
"""Sizes in the catalogue that are multiples of this were rounded, so no file can be told by them."""
OLLAMA_LAYERS = frozenset({"model", "projector", "draft"})


class Shelved(Record, frozen=True, kw_only=True):
    """A file that was found, and where: `Hugging Face cache`, `LM Studio`, `llama.cpp` or `Ollama`."""

    path: Path
    source: str


def find(repo: str, file: str, size: int, architectures: frozenset[str]) -> Shelved | None:
    """The file of that repository and name, or of that size.

    Args:
        size: in bytes, as far as the catalogue knows it.
        architectures: what its header may say it is; a projector says `clip`.
    """
    for found in _candidates(repo, file, size):
        if found.path.is_file() and is_whole(found.path, architectures):
            return found
    return None


def is_whole(path: Path, architectures: frozenset[str]) -> bool:
    """Whether it is a GGUF of such an architecture with all its weights (and all its parts, where it is split)."""
    try:
        return gguf.read_whole(path).architecture in architectures
    except AdvisorError:
        # A blob's name ends in no `.gguf` and a part may be missing: either way it cannot be used.
        return False


def hub_cache() -> Path:
    """The cache of huggingface_hub, by its own rules, without its import."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given := os.environ.get(name):
            return Path(given).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "huggingface" / "hub"


def repo_folder(repo: str) -> Path:
    """Where the cache keeps a repository."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def _candidates(repo: str, file: str, size: int) -> Iterator[Shelved]:
    snapshots = sorted(repo_folder(repo).glob("snapshots/*"), key=_age, reverse=True)
    yield from (Shelved(path=snapshot / file, source="Hugging Face cache") for snapshot in snapshots)
    for folder in (Path.home() / ".lmstudio" / "models", Path.home() / ".cache" / "lm-studio" / "models"):
        yield Shelved(path=folder / repo / file, source="LM Studio")
    flat = f"{repo}_{Path(file).name}".replace("/", "_")
    yield Shelved(path=_llama_cpp_folder() / flat, source="llama.cpp")
    if size % ROUNDED:
        yield from (Shelved(path=path, source="Ollama") for path in _ollama_blobs(size))


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _llama_cpp_folder() -> Path:
    if given := os.environ.get("LLAMA_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llama.cpp"
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llama.cpp"


def _ollama_blobs(size: int) -> Iterator[Path]:
    """Blobs of that size that a manifest names as a model, a projector or a drafter."""
    given = os.environ.get("OLLAMA_MODELS")
    service = Path("/usr/share/ollama/.ollama/models")
    for folder in [Path(given)] if given else [Path.home() / ".ollama" / "models", service]:
        for layer in _layers(folder):
            kind = str(layer.get("mediaType", "")).rpartition(".")[2]
            near = abs(_number(layer.get("size")) - size) <= SLACK
            digest = str(layer.get("digest", ""))
            if kind in OLLAMA_LAYERS and near and digest.startswith("sha256:"):
                yield folder / "blobs" / digest.replace(":", "-")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _layers(folder: Path) -> Iterator[dict[str, object]]:
    try:
        manifests = sorted(path for path in (folder / "manifests").rglob("*") if path.is_file())
    except OSError:
        return
    for manifest in manifests:
        try:
            layers = json.loads(manifest.read_bytes()).get("layers", [])
        except (OSError, ValueError, AttributeError):
            continue
        yield from (layer for layer in layers if isinstance(layer, dict))
