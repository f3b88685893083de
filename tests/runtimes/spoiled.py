"""Drafters whose weights are not what they were: no configuration tells, only counters do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

WEIGHTS = "model.safetensors"


def scrambled(source: Path, folder: Path) -> Path:
    """Its weights out of order: right by chance only."""
    return _changed(source, folder, np.random.default_rng(1).permutation)


def blank(source: Path, folder: Path) -> Path:
    """All weights zero: it proposes the same token for ever, which no answer has."""
    return _changed(source, folder, np.zeros_like)


def _changed(source: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    shutil.copytree(source, folder)
    data = bytearray((folder / WEIGHTS).read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    for name, each in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            place = slice(*(begin + at for at in each["data_offsets"]))
            data[place] = change(np.frombuffer(bytes(data[place]), "<f4")).tobytes()
    (folder / WEIGHTS).write_bytes(data)
    return folder
