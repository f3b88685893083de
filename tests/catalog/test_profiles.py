"""The shipped profiles: complete, sourced, and consistent with what is known of the architecture."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest

from advisor.knowledge.catalog import Catalog, load
from advisor.knowledge.names import plain
from advisor.knowledge.profile import Architecture, Bytes, ModelProfile, Quant

MODELS = ("e2b", "e4b", "12b", "26b", "31b")
USE_CASES = {"chat", "coding", "reasoning", "agents", "vision", "audio", "long-context"}
PLACES = {"mobile", "desktop", "production", "max-quality"}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, catalog: Catalog) -> ModelProfile:
    return catalog.models[request.param]


def records(value: object) -> Iterator[msgspec.Struct]:
    """Every record inside a value, itself included."""
    if isinstance(value, msgspec.Struct):
        yield value
        value = [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from records(item)


def test_all_models_in_order_of_size(catalog: Catalog) -> None:
    assert tuple(catalog.models) == MODELS


def test_all_use_cases_of_the_contract(catalog: Catalog) -> None:
    assert set(catalog.use_cases) == USE_CASES | PLACES


def test_many_devices_of_every_maker(catalog: Catalog) -> None:
    assert len(catalog.devices) >= 80
    assert {device.vendor for device in catalog.devices.values()} == {"nvidia", "amd", "intel", "apple", "other"}


def test_every_figure_has_a_source(catalog: Catalog) -> None:
    sources = [
        (type(record).__name__, name, getattr(record, name))
        for record in records(catalog)
        for name in record.__struct_fields__
        if name.endswith("source")
    ]
    assert len(sources) > 300
    assert not [entry for entry in sources if not entry[2].strip()]


def test_sources_are_public(catalog: Catalog) -> None:
    text = msgspec.json.encode(catalog, enc_hook=int).decode()
    assert not re.findall(r"/(?:work|home|tmp|root)/", text)


# ---- Architecture


def derived_parameters(shape: Architecture) -> int:
    """Text parameters from the shapes alone: embedding, attention, MLPs, experts, router and per-layer embeddings."""
    local, hidden = shape.layers - shape.global_layers, shape.hidden
    widths = local * shape.head_dim_local + shape.global_layers * shape.head_dim_global
    query_and_output = 2 * hidden * shape.heads * widths
    value_copies = 1 if shape.shares_kv_weights else 2
    keys_and_values = hidden * (
        local * shape.kv_heads_local * shape.head_dim_local * 2
        + shape.global_layers * shape.kv_heads_global * shape.head_dim_global * value_copies
    )
    wide = shape.kv_shared_layers * (shape.ffn_shared or shape.ffn)
    mlp = 3 * hidden * ((shape.layers - shape.kv_shared_layers) * shape.ffn + wide)
    experts = shape.layers * shape.experts * (3 * hidden * shape.expert_ffn + hidden)
    per_layer = shape.per_layer_embedding * shape.layers * (shape.vocab + 3 * hidden)
    return shape.vocab * hidden + query_and_output + keys_and_values + mlp + experts + per_layer


def test_shapes_add_up_to_the_parameter_count(model: ModelProfile) -> None:
    assert derived_parameters(model.architecture) == pytest.approx(model.architecture.parameters, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions"), [("e2b", 4.65), ("e4b", 7.52), ("12b", 11.91), ("26b", 25.23), ("31b", 30.70)]
)
def test_parameter_counts_as_published(catalog: Catalog, name: str, billions: float) -> None:
    assert catalog.models[name].architecture.parameters / 1e9 == pytest.approx(billions, rel=0.002)


def kv_bytes(shape: Architecture, tokens: int) -> int:
    """The f16 cache of one sequence at llama.cpp's defaults: micro-batch 512, cells padded to 256."""
    cells = -(-min(tokens, shape.window + 512) // 256) * 256
    each_global = shape.kv_heads_global * shape.head_dim_global * 2 * 2
    each_local = shape.kv_heads_local * shape.head_dim_local * 2 * 2
    return shape.kv_own_global * each_global * tokens + shape.kv_own_local * each_local * cells


@pytest.mark.parametrize(
    ("name", "per_1k", "fixed", "at_8k", "at_32k", "at_128k"),
    [
        ("e2b", 6, 12, 60, 204, 780),
        ("e4b", 16, 40, 168, 552, 2088),
        ("12b", 16, 480, 608, 992, 2528),
        ("26b", 20, 300, 460, 940, 2860),
        ("31b", 80, 1200, 1840, 3760, 11440),
    ],
)
def test_kv_cache_in_mib(  # noqa: PLR0917
    catalog: Catalog, name: str, per_1k: int, fixed: int, at_8k: int, at_32k: int, at_128k: int
) -> None:
    shape = catalog.models[name].architecture
    sizes = {tokens: kv_bytes(shape, tokens) / 2**20 for tokens in (8192, 32768, 131072)}
    assert sizes == {8192: at_8k, 32768: at_32k, 131072: at_128k}
    assert (sizes[32768] - sizes[8192]) / 24 == per_1k
    assert sizes[8192] - 8 * per_1k == fixed


@pytest.mark.parametrize(("name", "billions"), [("e2b", 2.349), ("e4b", 2.819), ("12b", 0), ("26b", 0), ("31b", 0)])
def test_per_layer_embedding_table(catalog: Catalog, name: str, billions: float) -> None:
    shape = catalog.models[name].architecture
    table = shape.vocab * shape.layers * shape.per_layer_embedding
    assert table / 1e9 == pytest.approx(billions, abs=0.001)


def test_experts_of_the_mixture(catalog: Catalog) -> None:
    shape = catalog.models["26b"].architecture
    assert shape.layers * shape.experts * 3 * shape.hidden * shape.expert_ffn / 1e9 == pytest.approx(22.84, abs=0.01)


# ---- Files


@pytest.mark.parametrize(
    ("name", "quant", "size"),
    [
        ("e2b", "QAT-UD-Q4_K_XL", 2_620_370_976),
        ("e2b", "QAT-Q4_0", 3_349_516_256),
        ("e4b", "QAT-UD-Q4_K_XL", 4_215_695_776),
        ("12b", "QAT-UD-Q4_K_XL", 6_716_356_800),
        ("26b", "QAT-UD-Q4_K_XL", 14_249_047_104),
        ("26b", "UD-Q4_K_M", 16_947_539_744),
        ("31b", "QAT-Q4_0", 17_651_001_568),
        ("31b", "Q8_0", 32_635_675_648),
    ],
)
def test_file_sizes(catalog: Catalog, name: str, quant: str, size: int) -> None:
    sizes = {each.name: each.bytes for each in catalog.models[name].quants}
    assert sizes[quant] == size
    assert isinstance(sizes[quant], Bytes)


def size_from_bits(shape: Architecture, quant: Quant) -> float:
    table = shape.vocab * (shape.hidden + shape.layers * shape.per_layer_embedding)
    experts = shape.layers * shape.experts * 3 * shape.hidden * shape.expert_ffn
    dense = shape.parameters - table - experts
    return (table * quant.embedding_bits + experts * quant.expert_bits + dense * quant.dense_bits) / 8


def test_bits_explain_the_sizes(model: ModelProfile) -> None:
    for quant in model.quants:
        if quant.dense_bits:
            assert size_from_bits(model.architecture, quant) == pytest.approx(quant.bytes, rel=0.015), quant.name


def test_more_bits_keep_more(model: ModelProfile) -> None:
    kept = {quant.name: quant.quality for quant in model.quants}
    plain = next(name for name in kept if name.endswith("Q4_K_M"))
    assert kept["BF16"] == 1 > kept["Q8_0"] > kept[plain] > kept.get("UD-Q2_K_XL", 0)
    assert kept["QAT-UD-Q4_K_XL"] > kept["QAT-Q4_0"] > kept.get("Q4_0", 0)


def test_a_drafter_for_each_kind_of_target(model: ModelProfile) -> None:
    by_qat = {file.qat: file for file in model.drafter.files}
    assert sorted(by_qat) == [False, True]
    assert by_qat[True].repo.endswith("-qat-GGUF")
    assert not by_qat[False].repo.endswith("-qat-GGUF")
    assert by_qat[True].bytes < by_qat[False].bytes < min(quant.bytes for quant in model.quants) / 10


def test_acceptance_falls_from_code_to_story(model: ModelProfile) -> None:
    accepted = model.drafter.acceptance
    assert sorted(accepted) == ["chat", "code", "reasoning", "story", "structured", "translation"]
    assert accepted["code"] > accepted["chat"] > accepted["translation"] > accepted["story"]


def test_small_models_are_drafted_for_less_well(catalog: Catalog) -> None:
    code = [catalog.models[name].drafter.acceptance["code"] for name in ("e2b", "e4b", "12b", "31b")]
    assert code == sorted(code)


def test_names_of_files_belong_to_the_model(model: ModelProfile) -> None:
    size = {"26b": "26B"}.get(model.id, model.id).lower()
    for file in (*model.quants, *model.drafter.files):
        assert size in file.file.lower()
        assert size in file.repo.lower()
        assert file.file.endswith(".gguf")


def test_files_in_several_parts(catalog: Catalog) -> None:
    files = {quant.name: quant.files for quant in catalog.models["26b"].quants}
    assert files["Q8_0"] == ("gemma-4-26B-A4B-it-Q8_0.gguf",)
    assert [file[-23:] for file in files["BF16"]] == ["BF16-00001-of-00002.gguf"[1:], "BF16-00002-of-00002.gguf"[1:]]


def test_audio_only_where_the_model_hears(catalog: Catalog) -> None:
    assert [name for name in MODELS if "audio" in catalog.models[name].modalities] == ["e2b", "e4b", "12b"]


def test_benchmarks_as_published(catalog: Catalog) -> None:
    assert [catalog.models[name].benchmarks["mmlu_pro"] for name in MODELS] == [60.0, 69.4, 77.2, 82.6, 85.2]
    assert [catalog.models[name].benchmarks["tau2"] for name in MODELS] == [24.5, 42.2, 69.0, 68.2, 76.9]
    assert "covost" not in catalog.models["31b"].benchmarks


# ---- Use cases


def test_weights_add_up_to_one(catalog: Catalog) -> None:
    for use_case in catalog.use_cases.values():
        assert sum(use_case.weights.values()) == pytest.approx(1), use_case.id


def test_weighted_benchmarks_are_published_wherever_the_model_can_do_the_work(catalog: Catalog) -> None:
    for use_case in catalog.use_cases.values():
        for model in catalog.models.values():
            if set(use_case.modalities) <= set(model.modalities):
                assert set(use_case.weights) <= set(model.benchmarks), (use_case.id, model.id)


def test_only_production_serves_several(catalog: Catalog) -> None:
    shared = [use_case.id for use_case in catalog.use_cases.values() if use_case.concurrent_users > 1]
    assert shared == ["production"]


# ---- Devices


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("RTX 3060", 360),
        ("RTX 4080 Laptop GPU", 432),
        ("RTX 5090", 1792),
        ("H100 SXM", 3350),
        ("Tesla P40", 346),
        ("R9700", 640),
        ("Strix Halo", 256),
        ("GB10", 273),
        ("M3 Max", 400),
        ("M4 Max", 546),
        ("M5 Max", 614),
        ("Arc Pro B70", 608),
        ("Jetson AGX Orin 64GB", 204.8),
    ],
)
def test_bandwidth_of_spec_sheets(catalog: Catalog, name: str, gigabytes: float) -> None:
    assert catalog.device(name).bandwidth == pytest.approx(gigabytes * 1e9)


def test_bandwidth_and_compute_are_of_this_world(catalog: Catalog) -> None:
    for device in catalog.devices.values():
        assert 10e9 < device.bandwidth < 10e12, device.id
        assert 0.03 < device.compute_tflops < 3000, device.id
        assert all(2**30 <= size <= 600 * 2**30 for size in device.memory), device.id
        assert device.cores > 0 or device.kind == "gpu", device.id


def test_no_two_devices_share_a_name(catalog: Catalog) -> None:
    found = [plain(device.name) for device in catalog.devices.values()]
    assert len(set(found)) == len(found)
