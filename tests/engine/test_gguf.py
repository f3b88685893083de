"""Headers of model files, and of files that are none: each fault is one sentence, quickly."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.errors import RuntimeFailed, UsageError
from advisor.files import gguf
from tests.engine import random_pair
from tests.engine.random_pair import Pair

quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=1000)


def refused(path: Path, said: str, drafter: Path | None = None) -> None:
    with pytest.raises(RuntimeFailed, match=said) as raised:
        gguf.pair(path, drafter)
    assert str(drafter or path) in raised.value.message


def test_a_pair(worst_pair: Pair) -> None:
    target, drafter = gguf.pair(worst_pair.target, worst_pair.drafter)
    assert drafter is not None
    assert (target.architecture, target.embedding_length, target.context_length) == ("gemma4", 128, 131072)
    assert (drafter.architecture, drafter.embedding_length_out) == ("gemma4-assistant", 128)
    assert target.vocabulary == drafter.vocabulary > 300
    assert target.tensors["token_embd.weight"] == target.vocabulary * 128 // 32 * 18


def test_no_model_files(tmp_path: Path) -> None:
    refused(tmp_path / "missing.gguf", "there is no file")
    refused(tmp_path, "is not a file")
    for name, content, said in (
        ("empty", b"", "is empty"),
        ("text", b"hello, I am a text", "is not a GGUF file"),
        ("short", b"GGUF", "cut off"),
        ("old", b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        ("lies", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60), "cut off"),
        ("nothing", b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not name its architecture"),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        refused(path, said)


def test_cut_off_anywhere(worst_pair: Pair, tmp_path: Path) -> None:
    data = worst_pair.target.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [*range(1, 3000, 97), *range(3000, len(data), len(data) // 50), len(data) - 1]:
        path.write_bytes(data[:size])
        refused(path, "cut off|not a GGUF")


@quiet
@given(changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_anywhere(changes: list[tuple[int, int]], worst_pair: Pair, tmp_path: Path) -> None:
    data = bytearray(worst_pair.target.read_bytes()[:60000])
    for at, value in changes:
        data[at] = value
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    try:
        gguf.pair(path, None)  # a changed letter in a token is no fault of the header
    except RuntimeFailed as error:
        assert str(path) in error.message


@quiet
@given(content=st.binary(max_size=400))
def test_any_bytes_after_the_magic(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + content)
    with pytest.raises(RuntimeFailed, match=r"any\.gguf"):
        gguf.pair(path, None)


def test_files_that_do_not_belong_together(worst_pair: Pair, tmp_path: Path) -> None:
    target, drafter = worst_pair
    refused(drafter, "is a drafter")
    refused(target, "must be smaller", drafter=_copy(target, tmp_path))
    with pytest.raises(UsageError, match="as model and as drafter"):
        gguf.pair(target, target)
    other = tmp_path / "other.gguf"
    random_pair.write_drafter(other, backbone=5376)
    refused(target, r"5376 \(31B\).*128", drafter=other)


@pytest.mark.parametrize("spelling", ["gemma4_assistant", "gemma4_mtp"])
def test_old_spellings(worst_pair: Pair, tmp_path: Path, spelling: str) -> None:
    old = tmp_path / "old.gguf"
    random_pair.write_drafter(old, architecture=spelling)
    with pytest.raises(RuntimeFailed, match="old format") as raised:
        gguf.pair(worst_pair.target, old)
    assert "gemma4-assistant" in raised.value.hint
    refused(old, "is a drafter")


def test_another_architecture(worst_pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "llama.gguf"
    random_pair.write_drafter(path, architecture="llama")
    refused(path, "'llama'")
    refused(worst_pair.target, "is no drafter", drafter=path)


def _copy(path: Path, folder: Path) -> Path:
    copy = folder / "copy.gguf"
    copy.write_bytes(path.read_bytes())
    return copy
