"""Headers that lie: each a clear error within a second, and nothing allocated for what they claim."""

from __future__ import annotations

import json
import resource
import struct
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor import cli
from advisor.errors import AdvisorError, RuntimeFailed
from advisor.files import gguf, shapes
from tests.bench.memory import Pair

quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=1000)
MAGIC = b"GGUF" + struct.pack("<I", 3)
HUGE = (1 << 63) - 1


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def value(key: str, kind: int, data: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + data


def array(key: str, kind: int, count: int, data: bytes = b"") -> bytes:
    return value(key, 9, struct.pack("<IQ", kind, count) + data)


LIES = {
    "tensors": struct.pack("<QQ", HUGE, 1),
    "values": struct.pack("<QQ", 1, HUGE),
    "a text": struct.pack("<QQ", 1, 1) + value("a", 8, struct.pack("<Q", HUGE)),
    "a key": struct.pack("<QQ", 1, 1) + struct.pack("<Q", HUGE),
    "numbers": struct.pack("<QQ", 1, 1) + array("a", 4, HUGE),
    "strings": struct.pack("<QQ", 1, 1) + array("a", 8, HUGE),
    "strings that a sparse file could hold": struct.pack("<QQ", 1, 1) + array("a", 8, 1 << 31),
    "nested arrays": struct.pack("<QQ", 1, 1) + array("a", 9, 4),
    "a tensor": struct.pack("<QQ", 1, 1)
    + value("general.architecture", 8, text("gemma4"))
    + text("t")
    + struct.pack("<IQQIQ", 2, HUGE, HUGE, 0, 0),
    "an offset": struct.pack("<QQ", 1, 1)
    + value("general.architecture", 8, text("gemma4"))
    + text("t")
    + struct.pack("<IQIQ", 1, 32, 0, HUGE),
    "dimensions": struct.pack("<QQ", 1, 1)
    + value("general.architecture", 8, text("gemma4"))
    + text("t")
    + struct.pack("<I", 1 << 31),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("size", [0, 20 << 30])
def test_huge_claims(lie: str, size: int, tmp_path: Path) -> None:
    """In a short file, and in a sparse one that is long enough to make the claim look possible."""
    path = tmp_path / "lie.gguf"
    path.write_bytes(MAGIC + LIES[lie])
    if size:
        with path.open("r+b") as file:
            file.truncate(size)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(RuntimeFailed, match=r"lie\.gguf"):
        gguf.checked_target(gguf.read_whole(path))
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_truncated_model(pairs: dict[str, Pair], tmp_path: Path) -> None:
    """The header is whole and the weights are not."""
    path = tmp_path / "cut.gguf"
    with pairs["e2b"].target.open("rb") as file:
        path.write_bytes(file.read(1 << 20))
    with pytest.raises(RuntimeFailed, match="cut off"):
        gguf.read(path)


@quiet
@given(changes=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255)), min_size=1, max_size=12))
def test_mutations(
    changes: list[tuple[int, int]], pairs: dict[str, Pair], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever byte is wrong: an estimate, or an error that says so; never a traceback."""
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    source = pairs["26b"].target
    with source.open("rb") as file:
        data = bytearray(file.read(60_000))
    for at, byte in changes:
        data[at] = byte
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(source.stat().st_size)
    code = cli.run(["estimate", str(path), "--simulate", "RTX 4090, 64GB", "--json"])
    assert code in (0, 2, 3, 6)


SETTINGS = (
    "block_count",
    "embedding_length",
    "context_length",
    "attention.sliding_window",
    "attention.shared_kv_layers",
    "attention.key_length",
    "attention.head_count",
    "feed_forward_length",
    "expert_count",
    "vocab_size",
)


@quiet
@given(key=st.sampled_from(SETTINGS), number=st.one_of(st.integers(0, 1 << 32), st.sampled_from([0, (1 << 32) - 1])))
def test_absurd_settings(key: str, number: int, pairs: dict[str, Pair]) -> None:
    """A header whose numbers cannot be is refused, or taken at its word without harm."""
    header = gguf.read(pairs["31b"].target)
    changed = {**header.values, f"gemma4.{key}": number}
    lying = msgspec.structs.replace(header, values=changed)
    try:
        found = shapes.architecture(gguf.checked_target(lying))
    except AdvisorError as error:
        assert str(header.path) in error.message
    else:
        assert found.layers > 0


def test_errors_are_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(MAGIC + LIES["tensors"])
    assert cli.run(["estimate", str(path), "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "runtime"
