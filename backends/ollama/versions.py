"""What each release of Ollama can do. Sources: its release notes and git history, June to October 2026."""

from __future__ import annotations

import re

Version = tuple[int, int, int]

GEMMA4: Version = (0, 20, 0)
TWELVE: Version = (0, 30, 5)
"""12B came with 0.30.3, and crashed until this one."""
DRAFTER: Version = (0, 30, 9)
"""The first that bundles a llama.cpp (b9626) which knows `gemma4-assistant`."""
MLX_MTP: Version = (0, 31, 0)
"""MLX tags draft by themselves; macOS only."""
ADVISED: Version = (0, 32, 7)
"""Older ones are said to skip drafting in silence."""

FEATURES = {"gemma4": GEMMA4, "12b": TWELVE, "drafter": DRAFTER, "drafter-advised": ADVISED}
UPDATE = "update Ollama: https://ollama.com/download"


def parse(text: str) -> Version | None:
    """`0.32.15-rc1` as numbers; None for a build from source (0.0.0) and for what is no version: nothing is known."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    found = (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)
    return found if any(found) else None


def words(version: Version) -> str:
    return ".".join(map(str, version))


def reaches(text: str, floor: Version) -> bool:
    """Whether that version has what came with `floor`; one that does not know its own is taken at its word, because
    what it made is looked at."""
    found = parse(text)
    return found is None or found >= floor


def features(text: str, system: str) -> tuple[str, ...]:
    """What it can do, by name: keys of `FEATURES`, and `mlx-mtp` on macOS."""
    known = FEATURES | ({"mlx-mtp": MLX_MTP} if system == "darwin" else {})
    return tuple(name for name, floor in known.items() if reaches(text, floor))


def floor_of(model: str, *, drafter: bool) -> Version:
    """What a model of the catalogue needs."""
    return max([GEMMA4, *([TWELVE] if model == "12b" else []), *([DRAFTER] if drafter else [])])
