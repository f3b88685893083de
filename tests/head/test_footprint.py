"""Bytes against what llama.cpp allocates; the expectations are read off its logs and published tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.knowledge.catalog import load
from advisor.memory import footprint
from advisor.memory.footprint import MIB, Shape

CATALOG = load()

KV_F16_MIB = {
    # model: 8K, 32K, 128K, 256K; one sequence, micro-batch 512
    "e2b": (60, 204, 780, None),
    "e4b": (168, 552, 2088, None),
    "12b": (608, 992, 2528, 4576),
    "26b": (460, 940, 2860, 5420),
    "31b": (1840, 3760, 11440, 21680),
}
CASES = [
    (model, context, expected)
    for model, sizes in KV_F16_MIB.items()
    for context, expected in zip((8192, 32768, 131072, 262144), sizes, strict=True)
    if expected is not None
]


def kv_mib(model: str, **shape: object) -> float:
    return footprint.kv_cache_bytes(CATALOG.models[model].architecture, Shape(**shape)) / MIB


@pytest.mark.parametrize(("model", "context", "expected"), CASES)
def test_kv_cache_is_exact(model: str, context: int, expected: int) -> None:
    assert kv_mib(model, context_tokens=context) == expected


def test_kv_cache_of_the_global_layers_quantised() -> None:
    architecture = CATALOG.models["31b"].architecture
    elements = footprint.global_kv_elements(architecture) * 262144
    assert elements * footprint.KV_BYTES_PER_32_ELEMENTS["q8_0"] // 32 == (5440 + 5440) * MIB


def test_kv_cache_with_four_sequences() -> None:
    """31B, f16, 32768 cells x 10 global layers: 2560 MiB; 4608 cells x 50 sliding ones: 3600 MiB."""
    architecture = CATALOG.models["31b"].architecture
    assert footprint.local_cells(architecture, Shape(context_tokens=32768, sequences=4)) == 4608
    assert kv_mib("31b", context_tokens=32768, sequences=4) == 2560 + 3600


def test_kv_cache_shrinks_with_its_type() -> None:
    f16, q8, q4 = (kv_mib("12b", context_tokens=32768, kv_type=kind) for kind in ("f16", "q8_0", "q4_0"))
    assert (q8 / f16, q4 / f16) == (34 / 64, 18 / 64)


def test_sliding_layers_hold_no_more_than_the_context() -> None:
    """Below the window nothing is saved: 31B at 1K holds 1024 cells in all 60 layers."""
    assert kv_mib("31b", context_tokens=1000) == 80 + 800


@given(st.integers(1, 262_144))
def test_context_is_padded_to_256(context: int) -> None:
    exact = footprint.padded(context)
    assert exact % 256 == 0
    assert context <= exact < context + 256
    assert kv_mib("12b", context_tokens=context) == kv_mib("12b", context_tokens=exact)


@pytest.mark.parametrize(("model", "context", "mib"), [("e2b", 32768, 142.5), ("31b", 8192, 183), ("31b", 32768, 207)])
def test_compute_buffer_is_near_what_llama_server_logs(model: str, context: int, mib: float) -> None:
    found = footprint.compute_bytes(CATALOG.models[model].architecture, Shape(context_tokens=context)) / MIB
    assert found == pytest.approx(mib, rel=0.015)


@pytest.mark.parametrize(("model", "context", "mib"), [("e2b", 32768, 48), ("31b", 8192, 84), ("31b", 32768, 108)])
def test_drafter_buffer_is_what_llama_server_logs(model: str, context: int, mib: float) -> None:
    profile = CATALOG.models[model]
    load = footprint.drafter_load(
        profile.architecture, profile.drafter, profile.drafter.files[0], Shape(context_tokens=context)
    )
    assert load.compute / MIB == pytest.approx(mib, abs=0.5)


def test_parts_of_a_file_add_up_to_it() -> None:
    for model in CATALOG.models.values():
        for quant in model.quants:
            assert footprint.weights(model.architecture, quant).file == quant.bytes, (model.id, quant.name)


def test_per_layer_table_of_the_small_models() -> None:
    """At 4.5 bits: 1.32 GB of E2B's 2.62 GB is looked up, never read as a whole."""
    model = CATALOG.models["e2b"]
    parts = footprint.weights(model.architecture, model.quants[0])
    assert parts.per_layer_table == pytest.approx(1.32e9, rel=0.01)
    assert CATALOG.models["12b"].architecture.per_layer_embedding == 0


def test_experts_are_most_of_the_mixture() -> None:
    architecture = CATALOG.models["26b"].architecture
    assert footprint.expert_weights(architecture) == pytest.approx(22.84e9, rel=0.001)
    assert footprint.active_weights(architecture) == pytest.approx(3.82e9, rel=0.01)


def test_total_against_llama_cpps_own_projection() -> None:
    """26B QAT at 4 bits, context 8192, micro-batch 2048: llama.cpp projected 14,943 MiB on the device. Google's file it
    was: nothing else gives that number."""
    model = CATALOG.models["26b"]
    quant = next(quant for quant in model.quants if quant.name == "QAT-Q4_0")
    load_ = footprint.footprint(model.architecture, quant, Shape(context_tokens=8192, micro_batch=2048))
    assert load_.kv_cache == 760 * MIB
    total = load_.weights.file - load_.weights.metadata + load_.kv_cache + load_.compute - load_.output
    assert total / MIB == pytest.approx(14943, abs=2)


def test_drafter_on_a_discrete_gpu() -> None:
    """E2B's Q8_0 drafter, llama-server: 68.0 MiB on the host and 78.25 MiB on the device, without buffers."""
    model = CATALOG.models["e2b"]
    file = next(file for file in model.drafter.files if file.name == "Q8_0")
    load_ = footprint.drafter_load(model.architecture, model.drafter, file, Shape(context_tokens=8192))
    assert load_.weights / MIB == pytest.approx(78.25, rel=0.01)
    assert load_.embedding / MIB == pytest.approx(68.0, rel=0.03)
