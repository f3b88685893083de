"""The catalogue: what `profiles/` says of models, devices and use cases. Data there, types and validation here.

Every file is checked when it is read: an unknown key, a missing field or a wrong unit is a `ProfileError` naming file and
key. Quantities are written with their unit (`24 GiB`, `1008 GB/s`) or as plain bytes.
"""

from __future__ import annotations

from typing import Literal

from advisor.machine import Record, Vendor


class Bytes(int):
    """A size in bytes; in YAML an integer, or a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB."""


class Bandwidth(int):
    """Bytes per second; in YAML a number with MB/s, GB/s or TB/s."""


class Architecture(Record):
    """The shape of a target. Layers are `global_layers` global ones, the rest sliding; the last
    `kv_shared_layers` own no KV cache. `ffn_shared`: width of the MLP in those (E2B: double), 0 for the same as `ffn`.
    """

    layers: int
    hidden: int
    ffn: int
    ffn_shared: int = 0
    heads: int
    head_dim_local: int = 256
    head_dim_global: int = 512
    kv_heads_local: int
    kv_heads_global: int
    window: int
    global_layers: int
    kv_shared_layers: int = 0
    kv_own_global: int
    kv_own_local: int
    shares_kv_weights: bool = False
    """Global layers have no value projection: K's weights serve both (the cache still holds both)."""
    per_layer_embedding: int = 0
    """Width of the per-layer embedding; its table has vocab x layers x width weights and is looked up, not streamed."""
    experts: int = 0
    experts_used: int = 0
    expert_ffn: int = 0
    vocab: int = 262_144
    max_context: int
    parameters: int
    source: str


class Quant(Record):
    """One downloadable target file. `bits`: nominal bits per weight class, for ordering and for what differs by tensor.

    `embedding_bits`, `dense_bits`, `expert_bits`: bits per weight of the embedding tables, of what every token reads, and
    of the routed experts, where a publisher keeps them apart; 0 means "as the file's average".
    """

    name: str
    repo: str
    file: str
    bytes: Bytes
    publisher: str
    qat: bool = False
    embedding_bits: float = 0.0
    dense_bits: float = 0.0
    expert_bits: float = 0.0
    quality: float
    """Share of the BF16 model's quality that is kept, 0..1."""
    quality_source: str
    source: str


class DrafterFile(Record):
    """One drafter GGUF for a target: QAT drafters belong to QAT targets."""

    name: str
    repo: str
    file: str
    bytes: Bytes
    qat: bool = False
    source: str


class Drafter(Record):
    """The MTP assistant of a model."""

    layers: int = 4
    hidden: int
    ffn: int
    heads: int
    parameters: int
    draft_tokens: int
    """Where to start on one user's machine."""
    acceptance: dict[str, float]
    """Acceptance of the first drafted token by kind of work (`code`, `chat`, ...)."""
    acceptance_decay: float
    """Conditional acceptance of each further position relative to the one before."""
    files: tuple[DrafterFile, ...]
    source: str


class Projector(Record):
    """The multimodal projector that llama.cpp loads for images and audio."""

    repo: str
    file: str
    bytes: Bytes
    source: str


class Sampling(Record):
    temperature: float
    top_p: float
    top_k: int
    source: str


class ModelProfile(Record):
    """One of the five sizes. `benchmarks`: scores as published, by name, all from `benchmarks_source`."""

    id: str
    name: str
    repo: str
    summary: str
    licence: str
    released: str
    context_tokens: int
    modalities: tuple[Literal["text", "image", "audio", "video"], ...]
    architecture: Architecture
    quants: tuple[Quant, ...]
    drafter: Drafter
    projector: Projector
    sampling: Sampling
    benchmarks: dict[str, float]
    benchmarks_source: str


class Device(Record):
    """A GPU or system-on-chip that can be named in `--simulate`.

    `kind`: `gpu` has memory of its own, `soc` shares the system's. `memory`: the sizes it is sold with.
    `compute_tflops`: dense FP16, for prefill; `efficiency`, `fixed_ms`: of decoding, where measured for its class.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    vendor: Vendor
    kind: Literal["gpu", "soc", "cpu"]
    memory: tuple[Bytes, ...]
    bandwidth: Bandwidth
    compute_tflops: float
    cores: int = 0
    threads: int = 0
    source: str


class UseCase(Record):
    """What a kind of work asks for. `weights`: benchmarks (by their name in the model profiles) to their weight."""

    id: str
    name: str
    summary: str
    context_tokens: int
    output_kind: str
    """The kind of text produced, a key of `Drafter.acceptance`."""
    min_tokens_per_s: float
    weights: dict[str, float]
    modalities: tuple[Literal["text", "image", "audio", "video"], ...] = ("text",)
    concurrent_users: int = 1
    source: str


class Catalog(Record):
    models: dict[str, ModelProfile]
    devices: dict[str, Device]
    use_cases: dict[str, UseCase]
