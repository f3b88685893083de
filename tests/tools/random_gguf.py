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

from advisor.knowledge.catalog import load
from advisor.knowledge.profile import ModelProfile
from backends.native import compile as wheel
from tests.engine.random_pair import Pair
from tests.tools.header_gguf import Tensor, drafter_tensors, target_tensors, write_drafter, write_target

QUANT = "Q4_0"
SPARE = 1.2
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


def scrambled(path: Path, made: Path) -> Path:
    """A copy with random matrices: the same shapes and costs, and nothing learned.

    Args:
        path: a file whose matrices are all of the types in `SPREAD`.
    """
    shutil.copyfile(path, made)
    random = np.random.default_rng(3)
    with made.open("r+b") as file:
        for tensor in gguf.GGUFReader(path).tensors:
            if tensor.tensor_type == Type.F32:
                continue
            shape = tuple(int(size) for size in tensor.shape)
            count = prod(shape) // gguf.GGML_QUANT_SIZES[tensor.tensor_type][0]
            file.seek(int(tensor.data_offset))
            file.write(blocks(Tensor(tensor.name, shape, tensor.tensor_type), count, random))
    return made


def write(folder: Path, model: ModelProfile) -> Pair:
    """Target and drafter at 4 bits, as Unsloth's QAT files have them."""
    made = named(folder)
    write_target(made.target, model, QUANT, pure=True, vocabulary=True)
    fill(made.target, target_tensors(model.architecture, QUANT, pure=True), seed=1)
    write_drafter(made.drafter, model, QUANT, pure=True, vocabulary=True)
    fill(made.drafter, drafter_tensors(model.drafter, model.architecture, QUANT, pure=True), seed=2)
    return made


def named(folder: Path) -> Pair:
    return Pair(folder / "target.gguf", folder / "drafter.gguf")


def pair(name: str) -> Pair:
    """One of the catalogue's sizes, written into the cache where it is not there yet.

    Raises:
        SystemExit: the disk has no room for it.
    """
    folder = wheel.cache() / "random" / f"{name}-{QUANT}"
    if folder.is_dir():
        return named(folder)
    model = load().models[name]
    tensors = target_tensors(model.architecture, QUANT, pure=True)
    tensors += drafter_tensors(model.drafter, model.architecture, QUANT, pure=True)
    needed = sum(tensor.size for tensor in tensors)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < SPARE * needed:
        raise SystemExit(f"{folder.parent} has no room for a pair of {needed >> 20} MiB")
    wheel.say(f"Writing {name} with random weights, once: {needed >> 20} MiB in {folder}")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        write(made, model)
        made.rename(folder)
    return named(folder)


if __name__ == "__main__":
    print(pair(sys.argv[1]).target.parent)
