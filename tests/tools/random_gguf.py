"""Gives header-true GGUFs random weights: the speed of a real model, answers that mean nothing, a drafter never right.

    python -m tests.tools.random_gguf e2b      prints the folder of the pair; writes it where there is none yet

The pair is kept in the user's cache, because the E2B's alone takes 2.7 GB.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from advisor.catalog import load
from backends.native import compile as wheel
from tests.tools.header_gguf import Tensor, drafter_tensors, target_tensors, write_drafter, write_target

QUANT = "Q4_0"
CHUNK = 1 << 20
"""Blocks that are made at a time."""
SPREAD = {Type.Q4_0: 4.6, Type.Q8_0: 73.9}
"""Standard deviation of what is stored, where its bits are random, in units of the block's scale."""

Bytes = npt.NDArray[np.uint8]


def blocks(tensor: Tensor, count: int, random: np.random.Generator) -> Bytes:
    """So many blocks of a matrix: random bits under one scale that keeps products as large as their factors."""
    size = gguf.GGML_QUANT_SIZES[tensor.kind][1]
    made = np.frombuffer(random.bytes(count * size), np.uint8).reshape(count, size).copy()
    scale = np.float16(1 / (SPREAD[tensor.kind] * tensor.shape[0] ** 0.5))
    made[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return made


def vector(tensor: Tensor) -> Bytes:
    """Norms and scales of one; a quarter of the dimensions turns with its position, as in Gemma's global layers."""
    values = np.ones(prod(tensor.shape), np.float32)
    if tensor.name == "rope_freqs.weight":
        values[len(values) // 4 :] = 1e30
    return values.view(np.uint8)


def fill(path: Path, tensors: Sequence[Tensor], seed: int) -> None:
    """Put weights into the file that `header_gguf` wrote."""
    random = np.random.default_rng(seed)
    padded = [gguf.GGUFWriter.ggml_pad(tensor.size, gguf.GGUF_DEFAULT_ALIGNMENT) for tensor in tensors]
    at = path.stat().st_size - sum(padded)
    with path.open("r+b") as file:
        for tensor, size in zip(tensors, padded, strict=True):
            file.seek(at)
            at += size
            if tensor.kind == Type.F32:
                file.write(vector(tensor))
                continue
            left = tensor.size // gguf.GGML_QUANT_SIZES[tensor.kind][1]
            while left:
                file.write(blocks(tensor, min(left, CHUNK), random))
                left -= min(left, CHUNK)


def pair(model: str) -> tuple[Path, Path]:
    """Target and drafter of one of the catalogue's sizes, at 4 bits as Unsloth's QAT files have them.

    Raises:
        SystemExit: the disk has no room for them.
    """
    folder = wheel.cache() / "random" / f"{model}-{QUANT}"
    found = folder / "target.gguf", folder / "drafter.gguf"
    if folder.is_dir():
        return found
    profile = load().models[model]
    target = target_tensors(profile.architecture, QUANT, pure=True)
    drafter = drafter_tensors(profile.drafter, profile.architecture, QUANT, pure=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(tensor.size for tensor in target + drafter)
    if shutil.disk_usage(folder.parent).free < 1.2 * needed:
        raise SystemExit(f"{folder.parent} has no room for a pair of {needed >> 20} MiB")
    wheel.say(f"Writing {model} with random weights, once: {needed >> 20} MiB in {folder}")
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        made = Path(name) / "made"
        made.mkdir()
        write_target(made / found[0].name, profile, QUANT, pure=True, vocabulary=True)
        fill(made / found[0].name, target, seed=1)
        write_drafter(made / found[1].name, profile, QUANT, pure=True, vocabulary=True)
        fill(made / found[1].name, drafter, seed=2)
        made.rename(folder)
    return found


if __name__ == "__main__":
    print(pair(sys.argv[1])[0].parent)
