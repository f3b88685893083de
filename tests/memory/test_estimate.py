"""`advisor estimate`: sums, files against the catalogue, what does not fit, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import cli
from advisor.choice import estimate
from advisor.choice import subject as subjects
from advisor.knowledge.catalog import Catalog, load
from advisor.machine import Availability
from advisor.memory.footprint import KV_BYTES_PER_32_ELEMENTS, MIB
from tests.bench.memory import Pair
from tests.engine import random_pair
from tests.head.machines import NAMED, simulated

GPU = ("--simulate", "RTX 4090, 64GB")
CPU = ("--simulate", "cpu, 32GB")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = cli.run(["estimate", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def adds_up(document: dict[str, Any]) -> None:
    memory = document["memory"]
    parts = ("weights_bytes", "kv_cache_bytes", "compute_bytes", "drafter_bytes", "projector_bytes")
    assert sum(memory[part] for part in parts) == memory["total_bytes"]
    assert memory["device_bytes"] + memory["host_bytes"] == memory["total_bytes"]
    assert memory["kv_global_bytes"] + memory["kv_sliding_bytes"] == memory["kv_cache_bytes"]
    assert all(value >= 0 for key, value in memory.items() if key != "headroom_bytes")
    assert memory["weights_bytes"] >= document["model"]["file_bytes"]
    assert document["fits"] == (memory["headroom_bytes"] >= 0)
    budgets: dict[str, int] = {}
    for item in document["budget"]:
        budgets[item["device"]] = budgets.get(item["device"], 0) + item["bytes"]
    assert memory["budget_bytes"] in (
        sum(size for name, size in budgets.items() if name.startswith("GPU")),
        *budgets.values(),
    )


def test_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, "26b", *GPU, "--context", "32768")
    assert code == 0
    assert document["schema"] == "advisor.estimate/1"
    assert set(document) >= {"memory", "speed", "placement", "drafter", "basis"}
    assert document["speed"]["depth_tokens"] == 2048
    adds_up(document)


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("model", ["e2b", "26b", "31b"])
def test_sums_everywhere(model: str, spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, model, "--simulate", spec)
    assert code == (0 if document["fits"] else 3)
    assert (document["speed"] is None) == (not document["fits"])
    assert document["drafter"]["reason"]
    adds_up(document)


@pytest.mark.parametrize("where", [GPU, CPU, ("--simulate", "M3 Max 64GB")])
@pytest.mark.parametrize("size", ["e2b", "12b", "26b"])
def test_a_file_and_the_catalogue_agree(
    size: str, where: tuple[str, ...], pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    """Unsloth's QAT file, from the catalogue's bits and from the header of one like it."""
    _, listed = run(capsys, size, *where, "--no-drafter", "--context", "32768")
    _, read = run(capsys, str(pairs[size].target), *where, "--no-drafter", "--context", "32768")
    assert read["basis"]["weights_bytes"] == "file"
    assert read["model"]["model"] == size
    for part in ("weights_bytes", "kv_cache_bytes", "compute_bytes", "device_bytes", "host_bytes"):
        # The vocabulary is left out of the test file: 15.8 MB.
        assert read["memory"][part] / MIB == pytest.approx(listed["memory"][part] / MIB, abs=20), part


def test_a_drafter_costs_more_than_its_file(pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]) -> None:
    """E2B at 32K on the server: 42 MB of tensors, and 48 MiB of buffers."""
    where = ("--context", "32768", *CPU)
    pair = pairs["e2b"]
    _, document = run(capsys, str(pair.target), "--drafter", str(pair.drafter), *where)
    assert document["drafter"]["enabled"]
    assert document["drafter"]["file"] == pair.drafter.name
    assert document["memory"]["drafter_bytes"] / MIB == pytest.approx(41.4 + 48 + 1, abs=1)
    _, native = run(capsys, str(pair.target), "--drafter", str(pair.drafter), "--backend", "native", *where)
    assert native["memory"]["drafter_bytes"] / MIB == pytest.approx(41.4 + 1 + 1, abs=1)


def test_a_drafter_for_a_size_of_the_catalogue(pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, "12b", "--drafter", str(pairs["12b"].drafter), *GPU)
    assert code == 0
    assert document["drafter"]["enabled"]
    code, document = run(capsys, "12b", "--drafter", str(pairs["31b"].drafter), *GPU)
    assert code == 6
    assert "31B" in document["error"]["message"]


def test_a_drafter_alone_is_explained(pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, str(pairs["31b"].drafter), *GPU)
    assert code == 6
    assert "is a drafter" in document["error"]["message"]
    assert "31B" in document["error"]["hint"]


def test_the_repacked_copy_is_told_apart(pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]) -> None:
    """On a processor with AVX2: 16,466.6 MiB that the kernel cannot drop, beside a mapped file that it can."""
    _, document = run(capsys, str(pairs["31b"].target), "--no-drafter", "--simulate", "cpu, 32GB")
    memory = document["memory"]
    assert memory["repacked_bytes"] / MIB == pytest.approx(16466.6, abs=1)
    assert memory["mapped_bytes"] == document["model"]["file_bytes"]
    assert memory["total_bytes"] < memory["mapped_bytes"] + memory["repacked_bytes"]
    assert any("--no-repack" in warning for warning in document["warnings"])
    _, on_gpu = run(capsys, str(pairs["31b"].target), "--no-drafter", *GPU)
    assert on_gpu["memory"]["repacked_bytes"] == 0


def test_what_does_not_fit_is_estimated_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, "31b", "--quant", "BF16", "--simulate", "RTX 4060, 16GB")
    assert code == 3
    assert document["speed"] is None
    assert document["memory"]["headroom_bytes"] < 0
    assert any("does not fit" in warning for warning in document["warnings"])
    adds_up(document)


def test_ollama_maps_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Its server loads the whole file into memory of its own, the tied head twice: nothing that could be dropped."""
    _, ours = run(capsys, "12b", *CPU, "--no-drafter")
    _, theirs = run(capsys, "12b", *CPU, "--no-drafter", "--backend", "ollama")
    assert theirs["memory"]["mapped_bytes"] == theirs["memory"]["repacked_bytes"] == 0
    more = theirs["memory"]["weights_bytes"] - ours["memory"]["weights_bytes"]
    assert more / MIB == pytest.approx(540, abs=1)
    adds_up(theirs)


def test_projector(capsys: pytest.CaptureFixture[str]) -> None:
    _, without = run(capsys, "12b", *GPU, "--no-drafter")
    _, document = run(capsys, "12b", *GPU, "--no-drafter", "--projector")
    adds_up(document)
    size = document["memory"]["projector_bytes"]
    assert size == CATALOG.models["12b"].projector.bytes
    assert document["memory"]["device_bytes"] - without["memory"]["device_bytes"] == size


def test_reserve(capsys: pytest.CaptureFixture[str]) -> None:
    budgets = [run(capsys, "e2b", *GPU, "--reserve", size)[1]["memory"]["budget_bytes"] for size in ("0", "2GiB")]
    assert budgets[0] - budgets[1] == 2 << 30
    code, _ = run(capsys, "e2b", *GPU, "--reserve", "-1")
    assert code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("31b", "--context", "300000"),
        ("e2b", "--context", "131073"),
        ("e2b", "--context", "0"),
        ("e2b", "--context", "-1"),
        ("e2b", "--depth", "-1"),
        ("e2b", "--context", "4096", "--depth", "4097"),
        ("e2b", "--ubatch", "0"),
        ("e2b", "--ubatch", "999999999"),
        ("e2b", "--kv-type", "q5_0"),
        ("e2b", "--quant", "Q9"),
        ("e2b", "--drafter", "x.gguf", "--no-drafter"),
        ("e9b",),
        ("x.gguf", "--quant", "Q8_0"),
        ("demo", "--projector"),
        ("hf:nothing",),
        ("e2b", "--simulate", "cpu", "--machine", "x.json"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run(capsys, *words)
    assert code == 2, document
    assert document["error"]["message"]


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    other = tmp_path / "llama.gguf"
    random_pair.write_drafter(other, architecture="llama")
    for path, said in (
        (text, "not a GGUF"),
        (other, "'llama'"),
        (tmp_path / "missing.gguf", "no file"),
        (tmp_path, "not a file"),
        (tmp_path / "m-00002-of-00003.gguf", "one part"),
    ):
        code, document = run(capsys, str(path))
        assert code == 6
        assert said in document["error"]["message"]


def test_the_page(pairs: dict[str, Pair]) -> None:
    result: Result = CliRunner().invoke(cli.cli, ["estimate", str(pairs["e2b"].target), *CPU])
    assert result.exit_code == 0, result.output
    for said in ("Gemma 4 E2B", "tok/s", "KV cache", "repacked", "main memory: budget"):
        assert said in result.output
    assert max(map(len, result.output.splitlines())) <= 96


CATALOG: Catalog = load()


@settings(max_examples=60, deadline=2000)
@given(
    size=st.sampled_from(sorted(CATALOG.models)),
    context=st.integers(1, 131072),
    kv_type=st.sampled_from(sorted(KV_BYTES_PER_32_ELEMENTS)),
    micro_batch=st.integers(1, 4096),
    spec=st.sampled_from(NAMED),
    backend=st.sampled_from(["llama.cpp", "ollama", "native", "another"]),
    drafted=st.booleans(),
)
def test_nothing_is_negative_and_more_context_is_never_less_memory(  # noqa: PLR0917 - hypothesis passes them by name
    size: str, context: int, kv_type: Any, micro_batch: int, spec: str, backend: str, drafted: bool
) -> None:
    subject = subjects.from_catalogue(CATALOG.models[size], None)
    available = Availability(name=backend, available=True, drafter=True)
    draft = subjects.usual_draft(subject) if drafted else None
    totals = []
    for tokens in (context, min(131072, context * 2)):
        asked = estimate.question(subject, available, context=tokens, kv_type=kv_type, micro_batch=micro_batch)
        found = estimate.attempt(subject, asked, draft, estimate.site(asked, simulated(spec), CATALOG))
        load_ = found.load
        assert min(load_.kv_global, load_.kv_sliding, load_.compute, load_.output, load_.staging) > 0
        totals.append(load_.kv_cache + load_.compute + load_.staging)
    assert totals[0] <= totals[1]
