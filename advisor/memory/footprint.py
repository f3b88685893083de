"""Bytes: what one configuration needs, part by part, following llama.cpp's own arithmetic.

Weights come from the file, by its tensors where its header is known; the KV cache is exact; the compute buffers follow
the widest moments of llama.cpp's graph; `tests/bench/memory.py` compares them with what llama.cpp reports.
Nothing here knows of devices: `placement` decides what goes where.
"""

from __future__ import annotations

from typing import Literal

from advisor.knowledge.profile import Architecture, Drafter, DrafterFile, Projector, Quant
from advisor.machine import Cpu, Record

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

REPACKED_TYPES = frozenset({"Q4_0", "Q4_K", "IQ4_NL"})
"""Matrices that llama.cpp copies into another layout for processors of `REPACKING` (ggml/src/ggml-cpu/repack.cpp)."""

REPACKING = frozenset({"avx2", "avx512f", "dotprod", "i8mm"})
"""Instructions that those layouts are for; any of them."""

MAPPED_ON_DEMAND = 4 * GIB
"""A lookup table above this is read row by row from the mapped file (`LLAMA_LAZY_MODE_AUTO`)."""

GAP = 8192
"""Floats per row between tensors, where the widest do not fit: what llama.cpp's allocator leaves unused. Read off its
buffers for all five sizes."""

BELOW_LOGITS = 0.35
"""The share of the graph's other tensors that lies below the logits when those are the largest. Read off for all five
sizes up to 32K: between 0 and 0.63, which is 31 MiB at most. At 128K it is up to 110 MiB too much for the largest."""

_FLOAT = 4
_MASK_ELEMENT = 2  # the attention mask is f16 with flash attention


class Caller(Record, frozen=True, kw_only=True):
    """How a backend makes its contexts: llama.cpp's buffers depend on who asks for how much.

    `outputs`: rows of one decode that may ask for logits; None for those of each sequence and its drafted tokens.
    `hidden_rows`: rows whose state is kept for a drafter; None for as many as there are outputs.
    `drafter_rows`: micro-batch of the drafter's context; None for the target's. `drafter_outputs`: as `outputs`.
    `mapped`: the file is mapped, so that its pages can be dropped and the tied head is no second copy.
    """

    outputs: int | None = None
    hidden_rows: int | None = None
    drafter_rows: int | None = None
    drafter_outputs: int | None = None
    mapped: bool = True
    source: str


LLAMA_SERVER = Caller(hidden_rows=2048, source="llama.cpp tools/server, common/speculative.cpp; its batch is 2048 rows")
CALLERS = {
    "llama.cpp": LLAMA_SERVER,
    "ollama": Caller(hidden_rows=512, mapped=False, source="argv of Ollama's llama-server: -b 512 --load-mode none"),
    "native": Caller(outputs=16, drafter_rows=1, drafter_outputs=1, source="backends/native: MAX_DRAFT + 1 rows"),
    "llama-cpp-python": Caller(outputs=1 << 30, drafter_outputs=1 << 30, source="llama_context_default_params"),
}
"""By backend; any other is taken for llama-server, which most of them run."""


def repacks(cpu: Cpu) -> bool:
    """Whether llama.cpp copies 4-bit matrices into another layout for this processor."""
    return not REPACKING.isdisjoint(cpu.features)


class Shape(Record, frozen=True, kw_only=True):
    """How a context is made. `sequences`: how many conversations share its `context_tokens` cells."""

    context_tokens: int
    kv_type: KvType = "f16"
    sequences: int = 1
    micro_batch: int = MICRO_BATCH
    flash_attention: bool = True
    backend: str = "llama.cpp"

    @property
    def caller(self) -> Caller:
        return CALLERS.get(self.backend, LLAMA_SERVER)

    @property
    def rows(self) -> int:
        """Rows of the largest decode."""
        return min(padded(self.context_tokens), self.micro_batch)


class Weights(Record, frozen=True, kw_only=True):
    """A target file by what its bytes are for; the five parts add up to the file.

    `per_layer_table`: looked up, never streamed. `embedding`: the token embedding, which is also the output head.
    `experts`: the routed experts. `metadata`: header and tokenizer. `layers`: everything else. `repacked`: of all
    these, what llama.cpp copies into another layout on processors with AVX2 or better (`repacks`); the kernel can drop
    the file's own pages, but not such a copy.
    """

    per_layer_table: int
    embedding: int
    experts: int
    layers: int
    metadata: int = 0
    repacked: int = 0

    @property
    def file(self) -> int:
        return self.per_layer_table + self.embedding + self.experts + self.layers + self.metadata


class DrafterLoad(Record, frozen=True, kw_only=True):
    """What a drafter adds. It has no KV cache of its own. `weights`: its tensors without the file's header, which in so
    small a file counts. `embedding`: the part of them that is held a second time beside a discrete GPU. `compute`: its
    scratch buffer. `output`: what comes back of a step. `staging`: what a GPU's inputs take in main memory."""

    weights: int
    embedding: int
    compute: int
    output: int = 0
    staging: int = 0
    repacked: int = 0


class Footprint(Record, frozen=True, kw_only=True):
    """Everything that one configuration allocates, in bytes, before any device is chosen. `compute` includes
    `output`, and `kv_cache` is `kv_global` and `kv_sliding` together. `staging`: scratch in main memory beside a GPU
    that holds all layers, for the inputs of its graph. `second_head`: the embedding's copy where the file is not mapped
    and all is in one memory."""

    layers: int
    weights: Weights
    kv_cache: int
    compute: int
    drafter: DrafterLoad | None = None
    projector: int = 0
    kv_global: int = 0
    kv_sliding: int = 0
    output: int = 0
    staging: int = 0
    second_head: int = 0

    @property
    def repacked(self) -> int:
        """What llama.cpp copies on a processor with AVX2 (see `Weights`)."""
        return self.weights.repacked + (self.drafter.repacked if self.drafter else 0)


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
    """The parts of one configuration of the catalogue. A drafter counts only with the file it is loaded from."""
    return assembled(
        architecture,
        weights(architecture, quant),
        shape,
        drafter=drafter_load(architecture, drafter, drafter_file, shape) if drafter and drafter_file else None,
        draft_tokens=draft_tokens,
        projector=int(projector.bytes) if projector else 0,
    )


def assembled(
    architecture: Architecture,
    held: Weights,
    shape: Shape,
    *,
    drafter: DrafterLoad | None = None,
    draft_tokens: int = 0,
    projector: int = 0,
) -> Footprint:
    """The parts of one configuration whose weights are known.

    Args:
        held: the file's bytes by purpose.
        draft_tokens: how many are verified together; they ask for logits as well.
        projector: bytes of the multimodal projector.
    """
    globals_, sliding = kv_global_bytes(architecture, shape), kv_sliding_bytes(architecture, shape)
    output = output_bytes(architecture, shape, draft_tokens, drafting=drafter is not None)
    outputs = output_rows(shape, draft_tokens)
    return Footprint(
        layers=architecture.layers,
        weights=held,
        kv_cache=globals_ + sliding,
        compute=compute_bytes(architecture, shape, outputs) + output,
        drafter=drafter,
        projector=projector,
        kv_global=globals_,
        kv_sliding=sliding,
        output=output,
        staging=staging_bytes(architecture, shape),
        second_head=0 if shape.caller.mapped else held.embedding,
    )


def weights(architecture: Architecture, quant: Quant) -> Weights:
    """The file's bytes by purpose: tables and experts from their bits per weight, the layers as what remains."""
    average = max(0, quant.bytes - HEADER_BYTES) * 8 / architecture.parameters
    embedding_bits = quant.embedding_bits or average
    table = int(per_layer_table_weights(architecture) * embedding_bits / 8)
    embedding = int(architecture.vocab * architecture.hidden * embedding_bits / 8)
    experts = int(expert_weights(architecture) * (quant.expert_bits or average) / 8)
    metadata = min(HEADER_BYTES, max(0, quant.bytes - table - embedding - experts))
    layers = max(0, quant.bytes - table - embedding - experts - metadata)
    repacked = layers * repacked_share(quant.dense_bits or average)
    repacked += experts * repacked_share(quant.expert_bits or average)
    return Weights(
        per_layer_table=table,
        embedding=embedding,
        experts=experts,
        layers=layers,
        metadata=metadata,
        repacked=int(repacked + embedding * repacked_share(embedding_bits)),
    )


def repacked_share(bits: float) -> float:
    """The share of the bytes that is in 4-bit blocks, where the rest is in Q6_K, by the average bits per weight."""
    four, six = 4.5, 6.5625
    if bits < four - 0.1:
        return 0.0
    weights_in_four = min(1.0, max(0.0, (six - bits) / (six - four)))
    return weights_in_four * four / bits


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
    return kv_global_bytes(architecture, shape) + kv_sliding_bytes(architecture, shape)


def kv_global_bytes(architecture: Architecture, shape: Shape) -> int:
    elements = global_kv_elements(architecture)
    if not shape.flash_attention:
        own = architecture.kv_heads_global * architecture.head_dim_global
        elements += architecture.kv_own_global * (widest_value(architecture) - own)
    return elements * padded(shape.context_tokens) * KV_BYTES_PER_32_ELEMENTS[shape.kv_type] // 32


def kv_sliding_bytes(architecture: Architecture, shape: Shape) -> int:
    elements = local_kv_elements(architecture)
    if not shape.flash_attention:
        own = architecture.kv_heads_local * architecture.head_dim_local
        elements += architecture.kv_own_local * (widest_value(architecture) - own)
    return elements * local_cells(architecture, shape) * KV_BYTES_PER_32_ELEMENTS[shape.kv_type] // 32


def widest_value(architecture: Architecture) -> int:
    """Width of V in every layer where it is stored transposed, which it is without flash attention."""
    local = architecture.kv_heads_local * architecture.head_dim_local
    return max(local, architecture.kv_heads_global * architecture.head_dim_global)


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


def output_rows(shape: Shape, draft_tokens: int = 0) -> int:
    """Rows of one decode that may ask for logits."""
    return min(shape.caller.outputs or shape.sequences * (1 + draft_tokens), shape.rows)


def compute_bytes(architecture: Architecture, shape: Shape, outputs: int = 1) -> int:
    """The graph's scratch buffer: what is alive at its widest moment, for one micro-batch.

    Three moments can be the widest: the MLP, attention without flash attention, and the logits of many rows.
    """
    row = shape.rows * _FLOAT
    masks = mask_bytes(architecture, shape)
    mlp = mlp_floats(architecture) * row
    # The masks are gone when the logits come, but their place is too small for so many.
    logits = outputs * architecture.vocab * _FLOAT + max(int(BELOW_LOGITS * mlp), masks)
    moments = [mlp + masks, logits]
    if not shape.flash_attention:
        queries = architecture.heads * architecture.head_dim_global
        floats = 3 * queries + 3 * architecture.hidden + 3 * per_layer_floats(architecture) // 2
        moments.append((floats + architecture.heads * padded(shape.context_tokens)) * row + masks)
    return max(moments) + rotation_bytes(architecture, shape)


def mlp_floats(architecture: Architecture) -> int:
    """Floats per row in the MLP: gate, up and their product, or the experts' outputs beside those of the dense MLP;
    three hidden states, the per-layer inputs, and a gap."""
    hidden, used = architecture.hidden, architecture.experts_used
    if architecture.experts:
        mlp = used * (hidden + architecture.expert_ffn) + 2 * architecture.ffn + architecture.experts
        gap = min(GAP, used * hidden)
    else:
        mlp = 3 * max(architecture.ffn, architecture.ffn_shared)
        gap = min(GAP, architecture.ffn)
    return mlp + 3 * hidden + per_layer_floats(architecture) + gap


def staging_bytes(architecture: Architecture, shape: Shape) -> int:
    """Scratch in main memory beside a GPU that holds all layers: the masks, the embedded tokens, the per-layer inputs.

    Read off llama.cpp's buffers with a second device (RPC), exact for all five sizes.
    """
    floats = 4 * architecture.hidden
    if architecture.per_layer_embedding:
        floats += architecture.hidden + per_layer_floats(architecture)
    return shape.rows * floats * _FLOAT + mask_bytes(architecture, shape) + rotation_bytes(architecture, shape)


def drafter_staging_bytes(architecture: Architecture, shape: Shape) -> int:
    """As `staging_bytes`, for the drafter: the masks and two states of the target."""
    rows = min(shape.rows, shape.caller.drafter_rows or shape.rows)
    return rows * 2 * architecture.hidden * _FLOAT + mask_bytes(architecture, shape) * rows // shape.rows


def per_layer_floats(architecture: Architecture) -> int:
    return architecture.layers * architecture.per_layer_embedding


def mask_bytes(architecture: Architecture, shape: Shape) -> int:
    """The attention masks: a row for each row of the micro-batch, an element for each cell."""
    cells = padded(shape.context_tokens) + local_cells(architecture, shape)
    return shape.rows * cells * (_MASK_ELEMENT if shape.flash_attention else _FLOAT)


def rotation_bytes(architecture: Architecture, shape: Shape) -> int:
    """Keys and values are rotated before they are quantised, by a matrix for each kind of layer."""
    if shape.kv_type == "f16":
        return 0
    return (architecture.head_dim_global**2 + architecture.head_dim_local**2) * _FLOAT


def output_bytes(
    architecture: Architecture, shape: Shape, draft_tokens: int = 0, *, drafting: bool | None = None
) -> int:
    """What comes back from a decode: logits of a row per sequence and drafted token, and states for a drafter."""
    logits = shape.sequences * (1 + draft_tokens)
    size = logits * architecture.vocab * _FLOAT
    if draft_tokens > 0 if drafting is None else drafting:
        size += (shape.caller.hidden_rows or logits) * architecture.hidden * _FLOAT
    return size


def drafter_load(architecture: Architecture, drafter: Drafter, file: DrafterFile, shape: Shape) -> DrafterLoad:
    """What the drafter adds beside the target."""
    tensors = max(0, file.bytes - HEADER_BYTES)
    embedding = architecture.vocab * drafter.hidden * tensors // drafter.parameters
    bits = tensors * 8 / drafter.parameters
    return DrafterLoad(
        weights=tensors,
        embedding=embedding,
        compute=drafter_compute_bytes(architecture, drafter.ffn, drafter.heads, shape),
        output=drafter_output_bytes(architecture, shape),
        staging=drafter_staging_bytes(architecture, shape),
        repacked=int(tensors * repacked_share(bits)),
    )


def drafter_compute_bytes(architecture: Architecture, ffn: int, heads: int, shape: Shape) -> int:
    """The drafter's scratch buffer: the target's state, and the widest of its input, its MLP and its attention.

    Exact for what llama-server logs of all five sizes.
    """
    rows = min(shape.rows, shape.caller.drafter_rows or shape.rows)
    outputs = min(shape.caller.drafter_outputs or shape.sequences, rows)
    queries = heads * architecture.head_dim_global
    floats = architecture.hidden + max(3 * architecture.hidden, 3 * ffn, 2 * queries)
    if not shape.flash_attention:
        attention = 2 * queries + architecture.hidden + heads * padded(shape.context_tokens)
        floats = max(floats, attention)
    masks = mask_bytes(architecture, shape) * rows // shape.rows
    # The masks are gone when the logits come.
    logits = outputs * architecture.vocab * _FLOAT + rows * architecture.hidden * _FLOAT
    return max(rows * floats * _FLOAT + masks, logits) + rotation_bytes(architecture, shape)


def drafter_output_bytes(architecture: Architecture, shape: Shape) -> int:
    """Logits and states of one row per sequence."""
    return shape.sequences * (architecture.vocab + architecture.hidden) * _FLOAT
