"""Predicted buffers against llama.cpp's own account, for all five sizes; `tests.bench.memory` prints the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advisor.files import gguf, shapes
from advisor.knowledge.catalog import Catalog
from advisor.memory import footprint
from advisor.memory.footprint import MIB, Shape
from tests.bench import memory
from tests.bench.memory import Compared, Pair
from tests.tools import header_gguf

Ask = Callable[..., dict[str, Any]]
SIZES = ("e2b", "e4b", "12b", "26b", "31b")


def check(rows: list[Compared]) -> None:
    assert rows
    assert [str(row) for row in rows if not row.good] == []


@pytest.mark.parametrize("size", SIZES)
def test_weights_and_repacked_copies(size: str, pairs: dict[str, Pair], ask: Ask) -> None:
    rows = list(memory.weights(ask, pairs[size], size))
    check(rows)
    assert max(abs(row.deviation) for row in rows) < 0.1


@pytest.mark.parametrize("size", ["e2b", "26b"])
def test_weights_of_llama_cpps_mixture(size: str, catalog: Catalog, tmp_path: Path, ask: Ask) -> None:
    pair = memory.write_pair(tmp_path, catalog.models[size], "Q4_K_M")
    check(list(memory.weights(ask, pair, size)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("context", memory.CONTEXTS)
@pytest.mark.parametrize("kv_type", memory.KV_TYPES)
def test_contexts_of_llama_server(size: str, context: int, kv_type: Any, pairs: dict[str, Pair], ask: Ask) -> None:
    shape = Shape(context_tokens=context, kv_type=kv_type)
    rows = list(memory.contexts(ask, pairs[size], "llama.cpp", shape, size))
    check(rows)
    exact = [row for row in rows if row.kind.startswith("KV") or row.kind in ("output", "drafter compute")]
    assert max(abs(row.deviation) for row in exact) < 0.1
    compute = next(row for row in rows if row.kind == "compute")
    assert compute.deviation == pytest.approx(0, abs=1.1), "nearer than asked, and it should stay so"


@pytest.mark.parametrize("size", SIZES)
def test_contexts_of_the_native_engine(size: str, pairs: dict[str, Pair], ask: Ask) -> None:
    """Few outputs, and a drafter that takes one row at a time: 1 MiB where others have 48 to 204."""
    rows = list(memory.contexts(ask, pairs[size], "native", Shape(context_tokens=32768, backend="native"), size))
    check(rows)


@pytest.mark.parametrize("size", SIZES)
def test_what_else_changes_a_context(size: str, pairs: dict[str, Pair], ask: Ask) -> None:
    """Micro-batches, several conversations, a context below the window, no flash attention."""
    for shape, call, case in memory.context_cases():
        if call == "llama.cpp" and (shape.context_tokens, shape.kv_type) not in ((4096, "f16"), (131072, "f16")):
            check(list(memory.contexts(ask, pairs[size], call, shape, case)))


@pytest.mark.parametrize("size", SIZES)
def test_callers_that_want_logits_of_every_row(size: str, pairs: dict[str, Pair], ask: Ask) -> None:
    """llama.cpp's own defaults: half a GiB for the logits, and again for the drafter's."""
    call = "llama-cpp-python"
    for context in (4096, 8192, 32768):
        shape = Shape(context_tokens=context, backend=call)
        rows = list(memory.contexts(ask, pairs[size], call, shape, f"{size} {context}"))
        check(rows)
        assert next(row for row in rows if row.kind == "compute").reported > 512


def test_the_native_engine_asks_as_the_estimate_thinks() -> None:
    from backends.native import target

    assert footprint.CALLERS["native"].outputs == target.MAX_DRAFT + 1
    assert target.MICRO_BATCH == footprint.MICRO_BATCH


@pytest.mark.parametrize("size", SIZES)
def test_tensors_give_the_published_sizes(size: str, catalog: Catalog) -> None:
    """Unsloth's QAT files and their drafters, to the kB: tensors and 15.8 MB of metadata."""
    model = catalog.models[size]
    quant = next(quant for quant in model.quants if quant.name == "QAT-UD-Q4_K_XL")
    tensors = sum(tensor.size for tensor in header_gguf.target_tensors(model.architecture, "Q4_0", pure=True))
    assert quant.bytes - tensors == pytest.approx(footprint.HEADER_BYTES, abs=60_000)
    drafter = sum(t.size for t in header_gguf.drafter_tensors(model.drafter, model.architecture, "Q4_0", pure=True))
    assert model.drafter.files[0].bytes - drafter == pytest.approx(footprint.HEADER_BYTES, abs=60_000)


@pytest.mark.parametrize("size", SIZES)
def test_a_header_tells_what_the_catalogue_says(size: str, catalog: Catalog, pairs: dict[str, Pair]) -> None:
    """The architecture, field by field, but for what counts tensors that a publisher leaves out."""
    read = shapes.architecture(gguf.read(pairs[size].target))
    known = catalog.models[size].architecture
    for field in known.__struct_fields__:
        if field not in ("parameters", "source"):
            assert getattr(read, field) == getattr(known, field), field
    assert read.parameters == pytest.approx(known.parameters, rel=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_catalogue_and_header_agree_on_weights(size: str, catalog: Catalog, pairs: dict[str, Pair]) -> None:
    model = catalog.models[size]
    quant = next(quant for quant in model.quants if quant.name == "QAT-UD-Q4_K_XL")
    listed, read = footprint.weights(model.architecture, quant), shapes.weights(gguf.read(pairs[size].target))
    for part in ("per_layer_table", "embedding", "experts", "layers"):
        assert getattr(listed, part) / MIB == pytest.approx(getattr(read, part) / MIB, rel=0.01, abs=2), part
    assert listed.repacked == pytest.approx(read.repacked, rel=0.02)


def test_published_logs_of_full_offload(catalog: Catalog, tmp_path: Path) -> None:
    """26B, 31 of 31 layers on the GPU: 577.5 MiB stay in main memory, the embedding in Q6_K (ollama#16647). E2B: 1756
    MiB do, the lookup table in Q5_K and the embedding in Q4_K (llama-server b10605)."""
    mixture = memory.write_pair(tmp_path, catalog.models["26b"], "Q4_K_M")
    assert shapes.weights(gguf.read(mixture.target)).embedding / MIB == pytest.approx(577.5, abs=0.05)
    shape = catalog.models["e2b"].architecture
    table = footprint.per_layer_table_weights(shape) * 5.5 / 8
    assert (table + shape.vocab * shape.hidden * 4.5 / 8) / MIB == pytest.approx(1756.0, abs=0.05)
