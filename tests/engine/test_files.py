"""Model files that are not what they should be: the parent lives and names file and reason. ADVISOR_FULL=1 tries 300.

Some damage is none (a changed weight, a letter in a token): then there is an answer.
"""

from __future__ import annotations

import json
import os
import random
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from advisor import cli
from tests.engine import random_pair
from tests.engine.conftest import FULL
from tests.engine.random_pair import Pair

pytestmark = pytest.mark.engine

COUNT = 300 if FULL else 30
WITHIN = 60.0
UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9


class Case(NamedTuple):
    """What `advisor run` is given. `faulty`: it cannot work, whatever llama.cpp thinks of it."""

    target: Path
    drafter: Path | None = None
    faulty: bool = True


class Bench:
    """Makes broken files out of a good pair."""

    def __init__(self, pair: Pair, folder: Path, seed: int) -> None:
        self.pair, self.folder, self.random = pair, folder, random.Random(seed)
        self.good = pair.target.read_bytes()
        self.draft = pair.drafter.read_bytes()
        self.table = self.good.index(b"token_embd.weight")

    def write(self, data: bytes, name: str = "broken.gguf") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def flipped(self, data: bytes, low: int, high: int, bits: int) -> bytes:
        changed = bytearray(data)
        for _ in range(bits):
            changed[self.random.randrange(low, high)] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    # each makes one case
    def truncated(self) -> Case:
        return Case(self.write(self.good[: self.random.randrange(len(self.good) - 1)]))

    def truncated_drafter(self) -> Case:
        return Case(self.pair.target, self.write(self.draft[: self.random.randrange(len(self.draft) - 1)]))

    def header_bits(self) -> Case:
        return Case(self.write(self.flipped(self.good, 0, self.table, self.random.choice([1, 4, 16]))), faulty=False)

    def early_header_bits(self) -> Case:
        return Case(self.write(self.flipped(self.good, 0, 1500, self.random.choice([1, 4]))), faulty=False)

    def table_bits(self) -> Case:
        end = min(len(self.good), self.table + 9000)
        return Case(self.write(self.flipped(self.good, self.table, end, self.random.choice([1, 4, 16]))), faulty=False)

    def drafter_bits(self) -> Case:
        end = self.draft.index(b"token_embd.weight") + 3000
        drafter = self.write(self.flipped(self.draft, 0, end, self.random.choice([1, 4])))
        return Case(self.pair.target, drafter, faulty=False)

    def weight_bits(self) -> Case:
        return Case(self.write(self.flipped(self.good, len(self.good) - 100_000, len(self.good), 64)), faulty=False)

    def number(self) -> Case:
        """A setting that says something else: zero, one, huge."""
        changed = bytearray(self.good)
        keys = [key for key in KEYS if key in self.good]
        at = self.good.index(key := self.random.choice(keys)) + len(key)
        kind = struct.unpack_from("<I", self.good, at)[0]
        if kind == FLOAT32:
            struct.pack_into("<f", changed, at + 4, self.random.choice([0.0, -1.0, float("nan"), float("inf"), 1e-38]))
        else:
            value = self.random.choice([0, 1, 2, 3, 7, 64, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
            struct.pack_into("<I", changed, at + 4, value)
        return Case(self.write(bytes(changed)), faulty=False)

    def kind(self) -> Case:
        """A setting of another type, of the same size or not."""
        changed = bytearray(self.good)
        at = self.good.index(key := self.random.choice([k for k in KEYS if k in self.good])) + len(key)
        struct.pack_into("<I", changed, at, self.random.choice([0, 5, FLOAT32, 7, STRING, ARRAY, 10, 77]))
        return Case(self.write(bytes(changed)), faulty=False)

    def tensor_kind(self) -> Case:
        """A matrix in another format than its bytes."""
        changed = bytearray(self.good)
        name = self.random.choice([b"token_embd.weight", b"blk.0.attn_q.weight", b"blk.1.ffn_up.weight"])
        at = self.good.index(name) + len(name) + 4 + 16
        struct.pack_into("<I", changed, at, self.random.choice([0, 1, 3, 6, 8, 14, 30, 39, 200]))
        return Case(self.write(bytes(changed)), faulty=False)

    def lacking(self) -> Case:
        path = self.folder / "broken.gguf"
        norms = ["output_norm", "blk.0.attn_norm", "blk.3.post_ffw_norm", "blk.1.attn_q_norm", "blk.0.post_norm"]
        random_pair.write_target(path, without=self.random.choice(norms))
        return Case(path)

    def other_drafter(self) -> Case:
        path = self.folder / "broken.gguf"
        random_pair.write_drafter(path, backbone=self.random.choice([1536, 2560, 5376, 96]))
        return Case(self.pair.target, path)

    def old_drafter(self) -> Case:
        path = self.folder / "broken.gguf"
        random_pair.write_drafter(path, architecture=self.random.choice(["gemma4_assistant", "gemma4_mtp"]))
        return Case(self.pair.target, path)

    def target_twice(self) -> Case:
        return Case(self.pair.target, self.write(self.good))

    def drafter_alone(self) -> Case:
        return Case(self.write(self.draft))

    def no_gguf(self) -> Case:
        other = [
            b"PK\x03\x04" + bytes(500),
            b"\x7fELF" + bytes(99),
            b"{}",
            b"GGUF",
            b"GGUF\x03\0\0\0" + b"\xff" * 40,
            b"",
        ]
        return Case(self.write(self.random.choice([*other, self.random.randbytes(2000)])))

    def no_file(self) -> Case:
        path = self.folder / "broken.gguf"
        kind = self.random.randrange(4)
        if kind == 0:
            path.mkdir()
        elif kind == 1:
            path.symlink_to(path)
        elif kind == 2:
            os.mkfifo(path)
        return Case(path)

    def no_permission(self) -> Case:
        path = self.write(self.good)
        path.chmod(0)
        return Case(path, faulty=not os.access(path, os.R_OK))  # root may read everything


KEYS = [
    f"gemma4.{key}".encode()
    for key in (
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon",
        "attention.key_length",
        "attention.value_length",
        "attention.key_length_swa",
        "rope.freq_base",
        "rope.dimension_count",
        "attention.sliding_window",
        "attention.shared_kv_layers",
        "embedding_length_per_layer_input",
        "final_logit_softcapping",
    )
] + [b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.eos_token_id"]

MAKERS: list[Callable[[Bench], Case]] = [
    Bench.truncated,
    Bench.header_bits,
    Bench.early_header_bits,
    Bench.table_bits,
    Bench.number,
    Bench.kind,
    Bench.tensor_kind,
    Bench.drafter_bits,
    Bench.weight_bits,
    Bench.truncated_drafter,
    Bench.lacking,
    Bench.other_drafter,
    Bench.old_drafter,
    Bench.target_twice,
    Bench.drafter_alone,
    Bench.no_gguf,
    Bench.no_file,
    Bench.no_permission,
]


@pytest.mark.parametrize("index", range(COUNT))
def test_a_mutated_file(
    endless_pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    index: int,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # logs of failures are kept for the user
    maker = MAKERS[index % len(MAKERS)]
    case = maker(Bench(endless_pair, tmp_path, index))
    argv = ["run", str(case.target), "hi", "--max-tokens", "2", "--threads", "1", "--json"]
    if case.drafter is not None:
        argv += ["--drafter", str(case.drafter)]
    began = time.monotonic()
    code = cli.run(argv)
    took = time.monotonic() - began
    document = json.loads(capsys.readouterr().out)
    assert took < WITHIN, (maker.__name__, took)
    if code == 0:
        assert not case.faulty, maker.__name__
        assert "text" in document
        return
    assert code == 6, (maker.__name__, document)
    error = document["error"]
    assert "broken.gguf" in error["message"], (maker.__name__, error)
    assert len(error["message"]) > len(str(tmp_path)) + 20
    assert "defect" not in error["message"] + error["hint"], error
