"""What a GGUF's header tells of a model: its architecture, and its weights by purpose. The file's word, not the
catalogue's: publishers differ, and fine-tunes are other files with the same shapes."""

from __future__ import annotations

import re

import msgspec

from advisor.errors import RuntimeFailed
from advisor.files.gguf import Header
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import Architecture, Bytes, Drafter, DrafterFile, ModelProfile
from advisor.machine import Record
from advisor.memory.footprint import (
    MAPPED_ON_DEMAND,
    REPACKED_TYPES,
    DrafterLoad,
    Shape,
    Weights,
    drafter_compute_bytes,
    drafter_output_bytes,
    drafter_staging_bytes,
)

LARGEST = 1 << 24
"""No width, vocabulary, context or number of layers comes near."""
MOST_LAYERS = 1024

EXPERTS = re.compile(r"blk\.\d+\.ffn_(gate_up|gate|up|down)_exps\.weight")
TABLE, EMBEDDING, HEAD = "per_layer_token_embd.weight", "token_embd.weight", "output.weight"


class DrafterShape(Record, frozen=True, kw_only=True):
    """What of a drafter's architecture its buffers depend on."""

    ffn: int
    heads: int


def architecture(header: Header) -> Architecture:
    """The architecture of a target.

    Raises:
        RuntimeFailed: a setting is missing or absurd.
    """
    layers = number(header, "block_count", MOST_LAYERS)
    sliding = [bool(one) for one in header.arrays.get("gemma4.attention.sliding_window_pattern", ())]
    shared = number(header, "attention.shared_kv_layers", layers, least=0)
    own = sliding[: layers - shared]
    heads_kv = each(header, "attention.head_count_kv", layers)
    widths = each(header, "feed_forward_length", layers)
    kv_local = next((count for count, slides in zip(heads_kv, sliding, strict=True) if slides), heads_kv[0])
    kv_global = next((count for count, slides in zip(heads_kv, sliding, strict=True) if not slides), heads_kv[-1])
    return Architecture(
        layers=layers,
        hidden=number(header, "embedding_length"),
        ffn=widths[0],
        ffn_shared=widths[-1] if widths[-1] != widths[0] else 0,
        heads=max(each(header, "attention.head_count", layers)),
        head_dim_local=number(header, "attention.key_length_swa", 1 << 16),
        head_dim_global=number(header, "attention.key_length", 1 << 16),
        kv_heads_local=kv_local,
        kv_heads_global=kv_global,
        window=number(header, "attention.sliding_window"),
        global_layers=layers - sum(sliding),
        kv_shared_layers=shared,
        kv_own_global=len(own) - sum(own),
        kv_own_local=sum(own),
        shares_kv_weights=not any(f"blk.{layer}.attn_v.weight" in header.tensors for layer in globals_of(sliding)),
        per_layer_embedding=number(header, "embedding_length_per_layer_input", least=0),
        experts=number(header, "expert_count", least=0),
        experts_used=number(header, "expert_used_count", least=0),
        expert_ffn=number(header, "expert_feed_forward_length", least=0),
        vocab=vocabulary(header),
        max_context=number(header, "context_length"),
        parameters=max(1, header.parameters),
        source=f"header of {header.path.name}",
    )


def globals_of(sliding: list[bool]) -> list[int]:
    return [layer for layer, slides in enumerate(sliding) if not slides]


def vocabulary(header: Header) -> int:
    if not 1 <= header.vocabulary <= LARGEST:
        raise absurd(header, "vocab_size", header.vocabulary)
    return header.vocabulary


def number(header: Header, key: str, most: int = LARGEST, *, least: int = 1) -> int:
    """A number of the header that can be.

    Raises:
        RuntimeFailed: it is missing (where it must not be 0) or beyond what any model has.
    """
    value = header.number(key)
    if not least <= value <= most:
        raise absurd(header, key, value)
    return value


def each(header: Header, key: str, layers: int) -> list[int]:
    """A setting of each layer, whether the header gives one for all or one for each."""
    values = header.arrays.get(f"{header.architecture}.{key}")
    if values is None:
        return [number(header, key)] * layers
    if len(values) != layers or not all(1 <= value <= LARGEST for value in values):
        raise absurd(header, key, f"{len(values)} values for {layers} layers")
    return [int(value) for value in values]


def absurd(header: Header, key: str, value: object) -> RuntimeFailed:
    return RuntimeFailed(
        f"{header.path}: {header.architecture}.{key} cannot be {value}",
        hint="the header is damaged, or of another kind of model",
    )


def weights(header: Header) -> Weights:
    """A target's bytes by purpose, tensor by tensor."""
    sizes = header.tensors
    experts = sum(size for name, size in sizes.items() if EXPERTS.fullmatch(name))
    table = sizes.get(TABLE, 0)
    embedding = sizes.get(EMBEDDING, 0)
    return Weights(
        per_layer_table=table,
        embedding=embedding,
        experts=experts,
        layers=sum(sizes.values()) - table - embedding - experts,
        metadata=max(0, header.total_bytes - sum(sizes.values())),
        repacked=repacked(header),
    )


def repacked(header: Header) -> int:
    """What llama.cpp copies on a processor with AVX2: every 4-bit matrix that it multiplies with, the tied head too."""
    return sum(
        size
        for name, size in header.tensors.items()
        if header.types.get(name) in REPACKED_TYPES
        and name != TABLE
        and not (name == EMBEDDING and HEAD in header.tensors)
    )


def mapped_on_demand(held: Weights) -> bool:
    """Whether llama.cpp reads the lookup table row by row from the file and never loads it."""
    return held.per_layer_table > MAPPED_ON_DEMAND


def drafter_shape(header: Header) -> DrafterShape:
    layers = number(header, "block_count", MOST_LAYERS)
    return DrafterShape(
        ffn=max(each(header, "feed_forward_length", layers)), heads=max(each(header, "attention.head_count", layers))
    )


def drafter_load(header: Header, target: Architecture, shape: Shape) -> DrafterLoad:
    """What a drafter file adds beside its target."""
    own = drafter_shape(header)
    return DrafterLoad(
        weights=sum(header.tensors.values()),
        embedding=header.tensors.get(EMBEDDING, 0),
        compute=drafter_compute_bytes(target, own.ffn, own.heads, shape),
        output=drafter_output_bytes(target, shape),
        staging=drafter_staging_bytes(target, shape),
        repacked=repacked(header),
    )


def quant_of(header: Header) -> str:
    """The type that most of the file's bytes have, as publishers name files: `Q4_K`, `Q8_0`."""
    by_type: dict[str, int] = {}
    for name, size in header.tensors.items():
        kind = header.types.get(name, "?")
        by_type[kind] = by_type.get(kind, 0) + size
    return max(by_type, key=lambda kind: by_type[kind], default="?")


def profile_of(shape: Architecture, catalog: Catalog) -> ModelProfile | None:
    """The size of the catalogue that has this shape, if any."""
    matching = (
        model
        for model in catalog.models.values()
        if (model.architecture.hidden, model.architecture.layers) == (shape.hidden, shape.layers)
    )
    return next(matching, None)


def drafter_record(header: Header, profile: ModelProfile | None) -> tuple[Drafter, DrafterFile]:
    """A drafter file as the catalogue would list it; without a profile nothing is known of its acceptance."""
    file = DrafterFile(
        name=quant_of(header),
        repo="local file",
        file=header.path.name,
        bytes=Bytes(header.total_bytes),
        source=f"header of {header.path.name}",
    )
    if profile is not None:
        return msgspec.structs.replace(profile.drafter, parameters=max(1, header.parameters)), file
    own = drafter_shape(header)
    record = Drafter(
        layers=number(header, "block_count", MOST_LAYERS),
        hidden=number(header, "embedding_length"),
        ffn=own.ffn,
        heads=own.heads,
        parameters=max(1, header.parameters),
        draft_tokens=1,
        acceptance={},
        acceptance_decay=1.0,
        files=(file,),
        source=f"header of {header.path.name}",
    )
    return record, file
