"""GGUF files of the shape that the recordings tell of: a small target with its drafter, one for another width, one of
random weights, another target, and a file that is none. Their weights are zeros."""

from __future__ import annotations

import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

RECORDINGS = Path(__file__).parents[1] / "ollama" / "recordings"
CUT = "<<truncated in this recording: "
GENERAL = ("general.architecture", "general.parameter_count")

TARGET, DRAFTER, WRONG, RANDOM, DENSE = "target", "drafter", "wrong", "random", "dense"
DIGESTS = {
    "7e0e25e2d38de01f6799ed11550b0f6230586ed64becf96749f1a7e72b4d8edd": TARGET,
    "691c0f80be21e7d326c817241ea2aee3d9d044dd30ee96302bfcf132498a24b9": DRAFTER,
    "71169b865c3515820f1ea2c6de6fd7ed0a89649e36ae6da0e06ece6e94dd41a5": WRONG,
    "409593087aaca42ea7bffa8df149735e4c7b764e80fcc87d3a18384e9e39435a": RANDOM,
    "bacc3ff02bf6d7d085d4e2358dc4a0f78a92401d5cfb63ebd71b66390ffc5c27": DENSE,
}
"""Of the files that were recorded with, and which of ours stands for each."""
SIZES = {TARGET: 4_849_600, DRAFTER: 1_204_864, WRONG: 913_312, RANDOM: 1_204_864, DENSE: 3_300_000}
PARAMETERS = {TARGET: 4_442_790, DRAFTER: 1_059_332, WRONG: 413_252, RANDOM: 1_059_332, DENSE: 1_540_000}


def recording(name: str) -> dict[str, Any]:
    """One recorded exchange."""
    found: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))
    return found


@cache
def content(kind: str) -> bytes:
    """A file's bytes; the same in every run."""
    shown = "066b-show-drafter-alone" if kind in (DRAFTER, WRONG, RANDOM) else "075-show-mtp-verbose"
    told = json.loads(recording(shown)["response"]["body_text"])
    facts = {name: expanded(value) for name, value in told["model_info"].items()}
    if kind in (WRONG, DENSE):
        facts["general.file_type"] = 1
    architecture = str(facts["general.architecture"])
    if kind == WRONG:
        facts[f"{architecture}.embedding_length_out"] = 96
    if kind == DENSE:
        facts[f"{architecture}.embedding_length"] = 96
    # Long arrays are left out where the recording was not verbose; a drafter has the target's vocabulary.
    full = json.loads(recording("075-show-mtp-verbose")["response"]["body_text"])["model_info"]
    for name, value in facts.items():
        if value is None and name in full:
            facts[name] = expanded(full[name])
    facts.setdefault("general.name", kind)
    if facts.get(f"{architecture}.attention.sliding_window_pattern") is None or kind in (DRAFTER, WRONG, RANDOM):
        facts[f"{architecture}.attention.sliding_window_pattern"] = [True, True, True, False]
    tensors = _tensors(expanded(told["tensors"]), PARAMETERS[kind])
    return _written(architecture, facts, tensors, SIZES[kind])


def digest(kind: str) -> str:
    """As Ollama writes it."""
    return f"sha256:{hashlib.sha256(content(kind)).hexdigest()}"


def expanded(value: Any) -> Any:
    """A recorded array with the items that were cut from it."""
    if not isinstance(value, list) or not value or not str(value[-1]).startswith(CUT):
        return value
    *head, mark = value
    missing = int(str(mark).removeprefix(CUT).split()[0])
    last = head[-1]
    if isinstance(last, dict):
        return [*head, *({"name": f"filler.{n}.weight", "type": "Q4_0", "shape": None} for n in range(missing))]
    return [*head, *(f"t{n}" if isinstance(last, str) else last for n in range(missing))]


def _tensors(entries: list[dict[str, Any]], parameters: int) -> list[tuple[str, tuple[int, ...], Type]]:
    """All tensors, those that were cut from the recording sized so that the sum is right."""
    found = []
    known = sum(_count(entry["shape"]) for entry in entries if entry["shape"])
    fillers = [entry for entry in entries if not entry["shape"]]
    left = max(parameters - known, 0)
    each = left // max(len(fillers), 1) // 32 * 32
    for entry in entries:
        if entry["shape"]:
            found.append((entry["name"], tuple(entry["shape"]), Type[entry["type"]]))
        elif entry is fillers[-1]:
            found.append((entry["name"], (left,), Type.F32 if left % 32 else Type.Q4_0))
        else:
            found.append((entry["name"], (each,), Type.Q4_0) if each else (entry["name"], (1,), Type.F32))
            left -= each or 1
    return found


def _count(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _written(
    architecture: str, facts: dict[str, Any], tensors: list[tuple[str, tuple[int, ...], Type]], size: int
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        for name, value in facts.items():
            if name not in GENERAL:
                _add(writer, name, value)
        for name, shape, kind in tensors:
            block, bytes_per_block = gguf.GGML_QUANT_SIZES[kind]
            length = _count(list(shape)) // block * bytes_per_block
            writer.add_tensor_info(name, shape[::-1], np.dtype("float32"), length, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        head = path.read_bytes()
    assert len(head) < size
    return head.ljust(size, b"\0")


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    elif value:
        writer.add_array(name, value)
