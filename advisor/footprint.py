"""Bytes: what one configuration needs, part by part, following llama.cpp's own arithmetic.

Weights come from the size of the file; the KV cache is exact; the compute buffers are an approximation whose anchors
are named at the functions. Nothing here knows of devices: `placement` decides what goes where.
"""

from __future__ import annotations

from typing import Literal

from advisor.catalog import Architecture, Drafter, DrafterFile, Projector, Quant
from advisor.machine import Record

KvType = Literal["f16", "q8_0", "q4_0"]

MIB = 1 << 20
GIB = 1 << 30

MICRO_BATCH = 512
"""llama.cpp's default `--ubatch-size`: rows computed at once while a prompt is read."""

CELL_PADDING = 256
"""llama.cpp rounds the number of KV cells up to this."""

HEADER_BYTES = 15_780_000
"""Metadata and tokenizer of a Gemma 4 GGUF: in the file, but no weight. Read off Unsloth's files of all five
sizes."""

KV_BYTES_PER_32_ELEMENTS: dict[KvType, int] = {"f16": 64, "q8_0": 34, "q4_0": 18}
"""Quantised caches store blocks of 32 elements with an f16 scale."""

_FLOAT = 4
_MASK_ELEMENT = 2  # the attention mask is f16


class Shape(Record, frozen=True, kw_only=True):
    """How a context is made. `sequences`: how many conversations share its `context_tokens` cells."""

    context_tokens: int
    kv_type: KvType = "f16"
    sequences: int = 1
    micro_batch: int = MICRO_BATCH


class Weights(Record, frozen=True, kw_only=True):
    """A target file by what its bytes are for; the four parts add up to the file.

    `per_layer_table`: looked up, never streamed. `embedding`: the token embedding, which is also the output head.
    `experts`: the routed experts. `layers`: everything else.
    """

    per_layer_table: int
    embedding: int
    experts: int
    layers: int

    @property
    def file(self) -> int:
        return self.per_layer_table + self.embedding + self.experts + self.layers


class DrafterLoad(Record, frozen=True, kw_only=True):
    """What a drafter adds. It has no KV cache of its own. `weights`: its tensors without the file's header, which in so
    small a file counts. `embedding`: the part of them that is held a second time beside a discrete GPU."""

    weights: int
    embedding: int
    compute: int


class Footprint(Record, frozen=True, kw_only=True):
    """Everything that one configuration allocates, in bytes, before any device is chosen."""

    layers: int
    weights: Weights
    kv_cache: int
    compute: int
    drafter: DrafterLoad | None = None
    projector: int = 0


def footprint(
    architecture: Architecture,
    quant: Quant,
    shape: Shape,
    *,
    drafter: Drafter | None = None,
    drafter_file: DrafterFile | None = None,
    draft_tokens: int = 0,
    projector: Projector | None = None,
) -> Footprint:
    """The parts of one configuration. A drafter counts only with the file it is loaded from."""
    return Footprint(
        layers=architecture.layers,
        weights=weights(architecture, quant),
        kv_cache=kv_cache_bytes(architecture, shape),
        compute=compute_bytes(architecture, shape) + output_bytes(architecture, shape, draft_tokens),
        drafter=drafter_load(architecture, drafter, drafter_file, shape) if drafter and drafter_file else None,
        projector=int(projector.bytes) if projector else 0,
    )


def weights(architecture: Architecture, quant: Quant) -> Weights:
    """The file's bytes by purpose: tables and experts from their bits per weight, the layers as what remains."""
    average = max(0, quant.bytes - HEADER_BYTES) * 8 / architecture.parameters
    embedding_bits = quant.embedding_bits or average
    table = int(per_layer_table_weights(architecture) * embedding_bits / 8)
    embedding = int(architecture.vocab * architecture.hidden * embedding_bits / 8)
    experts = int(expert_weights(architecture) * (quant.expert_bits or average) / 8)
    return Weights(
        per_layer_table=table,
        embedding=embedding,
        experts=experts,
        layers=max(0, quant.bytes - table - embedding - experts),
    )


def per_layer_table_weights(architecture: Architecture) -> int:
    return architecture.vocab * architecture.layers * architecture.per_layer_embedding


def expert_weights(architecture: Architecture) -> int:
    """Gate, up and down matrices of every routed expert in every layer."""
    return architecture.layers * architecture.experts * 3 * architecture.hidden * architecture.expert_ffn


def active_weights(architecture: Architecture) -> int:
    """Weights that one token multiplies with: no lookup table, and only the experts it is routed to."""
    idle = expert_weights(architecture)
    if architecture.experts:
        idle -= idle * architecture.experts_used // architecture.experts
    return architecture.parameters - per_layer_table_weights(architecture) - idle


def kv_cache_bytes(architecture: Architecture, shape: Shape) -> int:
    """K and V of the layers that own a cache. Exact against llama.cpp's log for all five sizes and all cache types.

    Global layers hold every cell of the context, sliding layers only the windows and one micro-batch. Layers whose
    K weights serve V as well still store both.
    """
    cells = padded(shape.context_tokens)
    elements = global_kv_elements(architecture) * cells
    elements += local_kv_elements(architecture) * local_cells(architecture, shape)
    return elements * KV_BYTES_PER_32_ELEMENTS[shape.kv_type] // 32


def global_kv_elements(architecture: Architecture) -> int:
    """Elements per cell in the global layers that own a cache."""
    return architecture.kv_own_global * 2 * architecture.kv_heads_global * architecture.head_dim_global


def local_kv_elements(architecture: Architecture) -> int:
    """Elements per cell in the sliding layers that own a cache."""
    return architecture.kv_own_local * 2 * architecture.kv_heads_local * architecture.head_dim_local


def local_cells(architecture: Architecture, shape: Shape) -> int:
    """Cells of a sliding layer."""
    wanted = shape.sequences * architecture.window + shape.micro_batch
    return padded(min(padded(shape.context_tokens), wanted))


def padded(cells: int) -> int:
    return -(-cells // CELL_PADDING) * CELL_PADDING


def compute_bytes(architecture: Architecture, shape: Shape) -> int:
    """The graph's scratch buffer: activations of one micro-batch and the attention masks. An approximation.

    Anchored on llama-server (about b11400, output rows limited): E2B at 32K 142.5 MiB, 31B at 8K 183 and at 32K 207
    MiB. The growth with context is the f16 mask (micro-batch x cells); the rest fits twice the widest MLP, twice the
    per-layer inputs and 8.5 hidden states to within 1 %. For the MoE (not anchored) the active experts count as one
    MLP and each returns a hidden state.
    """
    mlp = max(architecture.ffn, architecture.ffn_shared) + architecture.experts_used * architecture.expert_ffn
    row = 2 * mlp + 2 * architecture.layers * architecture.per_layer_embedding
    row += 17 * architecture.hidden // 2 + architecture.experts_used * architecture.hidden
    return shape.micro_batch * row * _FLOAT + mask_bytes(architecture, shape)


def mask_bytes(architecture: Architecture, shape: Shape) -> int:
    cells = padded(shape.context_tokens) + local_cells(architecture, shape)
    return shape.micro_batch * cells * _MASK_ELEMENT


def output_bytes(architecture: Architecture, shape: Shape, draft_tokens: int = 0) -> int:
    """Logits that come back: one row per sequence and drafted token."""
    return shape.sequences * (1 + draft_tokens) * architecture.vocab * _FLOAT


def drafter_load(architecture: Architecture, drafter: Drafter, file: DrafterFile, shape: Shape) -> DrafterLoad:
    """What the drafter adds beside the target.

    The buffer is twice its MLP, its queries and the target's hidden state per row, plus the masks: exact for
    llama-server's E2B at 32K (48 MiB) and 31B at 8K (84 MiB) and at 32K (108 MiB).
    """
    row = 2 * drafter.ffn + drafter.heads * architecture.head_dim_global + architecture.hidden
    tensors = max(0, file.bytes - HEADER_BYTES)
    return DrafterLoad(
        weights=tensors,
        embedding=architecture.vocab * drafter.hidden * tensors // drafter.parameters,
        compute=shape.micro_batch * row * _FLOAT + mask_bytes(architecture, shape),
    )
