"""Model files that are here already: in the Hugging Face cache, and where LM Studio, llama.cpp and Ollama keep theirs.

A file is taken for the one that is wanted by its repository and name; in Ollama's folder, which has neither, by size.
What is found must still be whole: its header is read, the weights it announces must be there, and it must be of the
kind and width that is wanted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from advisor.errors import AdvisorError
from advisor.files import gguf
from advisor.files.gguf import Header
from advisor.machine import Record

SLACK = 64 << 10
"""Bytes by which two uploads of the same weights differ: their metadata (2 KB for Ollama's copy of Google's E2B)."""
ROUNDED = 1000
"""Sizes in the catalogue that are multiples of this were rounded, so no file can be told by them."""
OLLAMA_LAYERS = frozenset({"model", "projector", "draft"})
BEGINNING = 1 << 16
"""Bytes of a file that are looked at for what it says it is: its architecture is the first thing in it."""


BESIDE = "same folder"
HUB, LM_STUDIO, LLAMA_CPP, OLLAMA = "Hugging Face cache", "LM Studio", "llama.cpp", "Ollama"


class Shelved(Record, frozen=True, kw_only=True):
    """A file that was found, and who keeps it."""

    path: Path
    source: str


def find(repo: str, file: str, size: int, suits: Callable[[Header], bool]) -> Shelved | None:
    """The file of that repository and name, or of that size.

    Args:
        size: in bytes, as far as the catalogue knows it.
        suits: whether a header is that of the file that is wanted.
    """
    for found in _candidates(repo, file, size):
        if (header := whole(found.path)) and suits(header):
            return found
    return None


def drafters(target: Path) -> Iterator[Shelved]:
    """Every drafter for any target that is here, those beside `target` first: known by what it says of itself."""
    seen: set[Path] = set()
    for found in _ggufs(target):
        place = found.path.resolve()
        if place not in seen and _says(found.path, gguf.DRAFTER):
            seen.add(place)
            yield found


def _ggufs(target: Path) -> Iterator[Shelved]:
    folders = [(target.parent, BESIDE), (target.parent / "MTP", BESIDE)]
    folders += [(path, HUB) for path in _newest(hub_cache().glob("models--*/snapshots/*"))]
    folders += [(path / "MTP", HUB) for path, source in folders if source == HUB]
    folders += [(path, LM_STUDIO) for folder in _lm_studio_folders() for path in sorted(folder.glob("*/*"))]
    folders += [(_llama_cpp_folder(), LLAMA_CPP)]
    for folder, source in folders:
        yield from (Shelved(path=path, source=source) for path in sorted(folder.glob("*.gguf")))
    yield from (Shelved(path=path, source=OLLAMA) for path, kind, _ in _ollama_blobs() if kind == "draft")


def _says(path: Path, architecture: str) -> bool:
    """Whether a file's beginning names this architecture: much quicker than reading its header."""
    try:
        with path.open("rb") as file:
            return architecture.encode() in file.read(BEGINNING)
    except OSError:
        return False


def whole(path: Path) -> Header | None:
    """The header of a GGUF with all its weights (and all its parts, where it is split); None where it is none."""
    try:
        return gguf.read_whole(path)
    except AdvisorError:
        # Not there, cut off, or a part is missing: either way it cannot be used.
        return None


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
    snapshots = _newest(repo_folder(repo).glob("snapshots/*"))
    yield from (Shelved(path=snapshot / file, source=HUB) for snapshot in snapshots)
    yield from (Shelved(path=folder / repo / file, source=LM_STUDIO) for folder in _lm_studio_folders())
    flat = f"{repo}_{Path(file).name}".replace("/", "_")
    yield Shelved(path=_llama_cpp_folder() / flat, source=LLAMA_CPP)
    if size % ROUNDED:
        yield from (Shelved(path=path, source=OLLAMA) for path, _, own in _ollama_blobs() if abs(own - size) <= SLACK)


def _newest(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=_age, reverse=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _lm_studio_folders() -> tuple[Path, ...]:
    return Path.home() / ".lmstudio" / "models", Path.home() / ".cache" / "lm-studio" / "models"


def _llama_cpp_folder() -> Path:
    if given := os.environ.get("LLAMA_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llama.cpp"
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llama.cpp"


def _ollama_blobs() -> Iterator[tuple[Path, str, int]]:
    """Blobs that a manifest names as a model, a projector or a drafter, with that kind and their size in bytes."""
    given = os.environ.get("OLLAMA_MODELS")
    service = Path("/usr/share/ollama/.ollama/models")
    for folder in [Path(given)] if given else [Path.home() / ".ollama" / "models", service]:
        for layer in _layers(folder):
            kind = str(layer.get("mediaType", "")).rpartition(".")[2]
            digest = str(layer.get("digest", ""))
            if kind in OLLAMA_LAYERS and digest.startswith("sha256:"):
                yield folder / "blobs" / digest.replace(":", "-"), kind, _number(layer.get("size"))


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
