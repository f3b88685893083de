"""The records of `profiles/`: what a model, a device and a use case are. `catalog.py` reads and checks the files."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from advisor.machine import Record, Vendor

Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
Count = Annotated[int, msgspec.Meta(gt=0)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Bits = Annotated[float, msgspec.Meta(ge=0, le=32)]
Modality = Literal["text", "image", "audio", "video"]


class Bytes(int):
    """A size in bytes; in YAML an integer, or a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB."""


class Bandwidth(int):
    """Bytes per second; in YAML a number with MB/s, GB/s or TB/s."""


class Architecture(Record, frozen=True, kw_only=True):
    """The shape of a target. Layers are `global_layers` global ones, the rest sliding; the last
    `kv_shared_layers` own no KV cache. `ffn_shared`: width of the MLP in those (E2B: double), 0 for the same as `ffn`.
    """

    layers: Count
    hidden: Count
    ffn: Count
    ffn_shared: Natural = 0
    heads: Count
    head_dim_local: Count = 256
    head_dim_global: Count = 512
    kv_heads_local: Count
    kv_heads_global: Count
    window: Count
    global_layers: Count
    kv_shared_layers: Natural = 0
    kv_own_global: Count
    kv_own_local: Count
    shares_kv_weights: bool = False
    """Global layers have no value projection: K's weights serve both (the cache still holds both)."""
    per_layer_embedding: Natural = 0
    """Width of the per-layer embedding; its table has vocab x layers x width weights and is looked up, not streamed."""
    experts: Natural = 0
    experts_used: Natural = 0
    expert_ffn: Natural = 0
    vocab: Count = 262_144
    max_context: Count
    parameters: Count
    source: Text


class Tag(Record, frozen=True, kw_only=True):
    """What a file is called in a backend's own library, where its projector comes with it."""

    name: Text
    source: Text


class Quant(Record, frozen=True, kw_only=True):
    """One downloadable target file. `bits`: nominal bits per weight class, for ordering and for what differs by tensor.

    `embedding_bits`, `dense_bits`, `expert_bits`: bits per weight of the embedding tables, of what every token reads,
    and of the routed experts, where a publisher keeps them apart; 0 means "as the file's average". `bytes` counts all
    parts. Publishers upload again now and then: what the Hub says at download may differ by some kB.
    """

    name: Text
    repo: Text
    file: Text
    bytes: Bytes
    publisher: Text
    qat: bool = False
    embedding_bits: Bits = 0.0
    dense_bits: Bits = 0.0
    expert_bits: Bits = 0.0
    quality: Share
    """Share of the BF16 model's quality that is kept, 0..1."""
    quality_source: Text
    source: Text
    tags: dict[str, Tag] = {}
    """What it is called in the libraries of backends that have one, by backend."""

    @property
    def files(self) -> tuple[str, ...]:
        """What to fetch: `file` alone, or all parts of `x-00001-of-00002.gguf`; a runtime is given the first."""
        split = re.fullmatch(r"(.+)-00001-of-(\d{5})\.gguf", self.file)
        if split is None:
            return (self.file,)
        return tuple(f"{split[1]}-{part:05d}-of-{split[2]}.gguf" for part in range(1, int(split[2]) + 1))


class DrafterFile(Record, frozen=True, kw_only=True):
    """One drafter GGUF for a target: QAT drafters belong to QAT targets."""

    name: Text
    repo: Text
    file: Text
    bytes: Bytes
    qat: bool = False
    source: Text


class Drafter(Record, frozen=True, kw_only=True):
    """The MTP assistant of a model."""

    layers: Count = 4
    hidden: Count
    ffn: Count
    heads: Count
    parameters: Count
    draft_tokens: Count
    """Where to start on one user's machine."""
    acceptance: dict[str, Share]
    """Acceptance of the first drafted token by kind of work (`code`, `chat`, ...)."""
    acceptance_decay: Share
    """Conditional acceptance of each further position relative to the one before."""
    files: tuple[DrafterFile, ...]
    source: Text


class Projector(Record, frozen=True, kw_only=True):
    """The multimodal projector that llama.cpp loads for images and audio."""

    repo: Text
    file: Text
    bytes: Bytes
    source: Text


class Checkpoint(Record, frozen=True, kw_only=True):
    """A target in its publisher's own format (safetensors, or one file of LiteRT-LM), for runtimes that read no GGUF.

    `file`: where one file is the whole model; a repository otherwise. `drafter`: the assistant's repository, empty
    where it is inside the file. `bytes`, `drafter_bytes`: of the weights.
    """

    name: Text
    repo: Text
    file: str = ""
    bytes: Bytes
    runtimes: tuple[Text, ...]
    drafter: str = ""
    drafter_bytes: Bytes | None = None
    source: Text


class Runtime(Record, frozen=True, kw_only=True):
    """A runtime that reads checkpoints. `variable`: names its program where it is not on the PATH, empty for one that
    is imported here. `install`: a command line by system, `usual` for the others. `floor`: the first version with
    Gemma's drafters; `floors`: by model, where that is later; `refused`: versions that cannot, and why. `systems`:
    those that it runs on. `apps`: what runs its files on a phone, by system. `address`: the variable that names a
    server that runs already; `image`: the container's, by the vendor of the GPUs. `cards`: by model, GPUs that it asks
    for at least with the drafter. `card_share`: of a card's memory that it takes for weights and caches."""

    id: Text
    name: Text
    packages: tuple[Text, ...]
    program: Text
    variable: str = ""
    address: str = ""
    image: dict[str, Text] = {}
    cards: dict[str, Count] = {}
    card_share: Share = 0.92
    install: dict[str, Text]
    needs: Text
    systems: tuple[Text, ...]
    apps: dict[str, Text] = {}
    floor: Text
    floors: dict[str, Text] = {}
    refused: dict[str, Text] = {}
    source: Text

    def least(self, model: str) -> str:
        """The first version that runs this model with its drafter."""
        return self.floors.get(model, self.floor)

    def install_line(self, system: str) -> str:
        """What installs it on a system (`linux`, `macos`, `windows`)."""
        return self.install.get(system, self.install["usual"])


class Sampling(Record, frozen=True, kw_only=True):
    temperature: Annotated[float, msgspec.Meta(ge=0)]
    top_p: Share
    top_k: Count
    source: Text


class ModelProfile(Record, frozen=True, kw_only=True):
    """One of the five sizes. `benchmarks`: scores as published, by name, all from `benchmarks_source`."""

    id: Text
    name: Text
    repo: Text
    summary: Text
    licence: Text
    released: Text
    context_tokens: Count
    modalities: tuple[Modality, ...]
    architecture: Architecture
    quants: tuple[Quant, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    """The same model for runtimes that read no GGUF, the best first."""
    drafter: Drafter
    projector: Projector
    sampling: Sampling
    benchmarks: dict[str, float]
    benchmarks_source: Text


class Device(Record, frozen=True, kw_only=True):
    """A GPU or system-on-chip that can be named in `--simulate`.

    `kind`: `gpu` has memory of its own, `soc` shares the system's, `cpu` is a processor without a GPU worth naming.
    `memory`: the sizes it is sold with (none for a `cpu`, whose memory is bought apart). `bandwidth`: of one device,
    from its spec sheet. `compute_tflops`: dense FP16, for prefill. `gpu_cores` tell the bins of Apple's chips apart.
    `form`: phones give one app only a part of their memory. `ecc`: error correction, which is on as the card comes,
    takes a sixteenth of its memory (a T4 of 16 GiB reports 15,360 MiB).
    """

    id: Text
    name: Text
    aliases: tuple[str, ...] = ()
    vendor: Vendor
    kind: Literal["gpu", "soc", "cpu"]
    memory: tuple[Bytes, ...]
    bandwidth: Bandwidth
    compute_tflops: Positive
    cores: Natural = 0
    threads: Natural = 0
    gpu_cores: Natural = 0
    form: Literal["", "phone"] = ""
    ecc: bool = False
    source: Text


class Advice(Record, frozen=True, kw_only=True):
    """What a widely read article of May 2026 advised for a place: which models, and why."""

    models: tuple[str, ...]
    reason: Text
    source: Text


class UseCase(Record, frozen=True, kw_only=True):
    """What a kind of work asks for. `weights`: benchmarks (by their name in the model profiles) to their weight.

    `min_tokens_per_s`: below it people give up. `comfort_tokens_per_s`: beyond it more speed is worth little.
    """

    id: Text
    name: Text
    summary: Text
    context_tokens: Count
    output_kind: Text
    """The kind of text produced, a key of `Drafter.acceptance`."""
    min_tokens_per_s: Positive
    comfort_tokens_per_s: Positive = 30.0
    weights: dict[str, Share]
    modalities: tuple[Modality, ...] = ("text",)
    concurrent_users: Count = 1
    advice: Advice | None = None
    source: Text
