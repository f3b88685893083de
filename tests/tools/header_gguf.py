"""Writes header-true GGUFs: the shapes, types and metadata of real Gemma 4 files, as sparse files of their full length.

They load like the real ones and occupy about 50 kB of disk, so a runtime tells what it would allocate. The shapes
follow llama.cpp's loader (`src/models/gemma4.cpp`, `gemma4-assistant.cpp`), the types its quantizer
(`src/llama-quant.cpp`), and the metadata its converter (`conversion/gemma.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import gguf
from gguf import GGMLQuantizationType as Type

from advisor.knowledge.profile import Architecture, Drafter, ModelProfile

QUANTS = ("Q4_0", "Q4_K_M", "Q8_0", "BF16")
BASE = {"Q4_0": Type.Q4_0, "Q4_K_M": Type.Q4_K, "Q8_0": Type.Q8_0, "BF16": Type.BF16}
FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q6_K: Type.Q8_0}
"""For rows that are no multiple of 256 (26B's narrow MLPs)."""


class Tensor(NamedTuple):
    """One entry of the header; `shape` as GGUF counts: columns first."""

    name: str
    shape: tuple[int, ...]
    kind: Type

    @property
    def size(self) -> int:
        """Bytes."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return prod(self.shape) // block * size


def sliding(shape: Architecture) -> tuple[bool, ...]:
    """For each layer, whether it slides: the last of each group is global, and so is the last of all."""
    group = shape.layers // shape.global_layers
    return tuple((layer + 1) % group != 0 for layer in range(shape.layers))


def target_shapes(shape: Architecture, *, idle_kv: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a target's tensors. `idle_kv`: with the K and V matrices of layers that read another layer's
    cache; they are in the checkpoints and in most files, and nothing reads them."""
    width, per_layer = shape.hidden, shape.per_layer_embedding
    yield "token_embd.weight", (width, shape.vocab)
    if per_layer:
        yield "per_layer_token_embd.weight", (per_layer * shape.layers, shape.vocab)
        yield "per_layer_model_proj.weight", (width, per_layer * shape.layers)
        yield "per_layer_proj_norm.weight", (per_layer,)
    yield "output_norm.weight", (width,)
    yield "rope_freqs.weight", (shape.head_dim_global // 2,)
    for layer, slides in enumerate(sliding(shape)):
        own = layer < shape.layers - shape.kv_shared_layers
        inside = layer_shapes(shape, slides=slides, own=own, kv=own or idle_kv)
        yield from ((f"blk.{layer}.{name}", size) for name, size in inside)


def layer_shapes(shape: Architecture, *, slides: bool, own: bool, kv: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = shape.hidden
    head = shape.head_dim_local if slides else shape.head_dim_global
    keys = head * (shape.kv_heads_local if slides else shape.kv_heads_global)
    ffn = shape.ffn if own or not shape.ffn_shared else shape.ffn_shared
    for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        yield f"{norm}.weight", (width,)
    yield "attn_q_norm.weight", (head,)
    yield "attn_q.weight", (width, head * shape.heads)
    yield "attn_output.weight", (head * shape.heads, width)
    yield "layer_output_scale.weight", (1,)
    if kv:
        yield "attn_k_norm.weight", (head,)
        yield "attn_k.weight", (width, keys)
        if slides or not shape.shares_kv_weights:
            yield "attn_v.weight", (width, keys)
    yield "ffn_gate.weight", (width, ffn)
    yield "ffn_up.weight", (width, ffn)
    yield "ffn_down.weight", (ffn, width)
    if shape.experts:
        yield from expert_shapes(shape)
    if shape.per_layer_embedding:
        yield "inp_gate.weight", (width, shape.per_layer_embedding)
        yield "proj.weight", (shape.per_layer_embedding, width)
        yield "post_norm.weight", (width,)


def expert_shapes(shape: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, ffn, count = shape.hidden, shape.expert_ffn, shape.experts
    yield "ffn_gate_inp.weight", (width, count)
    yield "ffn_gate_inp.scale", (width,)
    for norm in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
        yield f"{norm}.weight", (width,)
    yield "ffn_gate_up_exps.weight", (width, 2 * ffn, count)
    yield "ffn_down_exps.weight", (ffn, width, count)
    yield "ffn_down_exps.scale", (count,)


def drafter_shapes(drafter: Drafter, target: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a drafter's tensors: queries only, the last layer global."""
    width = drafter.hidden
    yield "token_embd.weight", (width, target.vocab)
    yield "output_norm.weight", (width,)
    yield "nextn.post_projection.weight", (width, target.hidden)
    yield "nextn.pre_projection.weight", (2 * target.hidden, width)
    yield "rope_freqs.weight", (target.head_dim_global // 2,)
    for layer in range(drafter.layers):
        head = target.head_dim_global if layer == drafter.layers - 1 else target.head_dim_local
        name = f"blk.{layer}"
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            yield f"{name}.{norm}.weight", (width,)
        yield f"{name}.attn_q_norm.weight", (head,)
        yield f"{name}.attn_q.weight", (width, head * drafter.heads)
        yield f"{name}.attn_output.weight", (head * drafter.heads, width)
        yield f"{name}.layer_output_scale.weight", (1,)
        yield f"{name}.ffn_gate.weight", (width, drafter.ffn)
        yield f"{name}.ffn_up.weight", (width, drafter.ffn)
        yield f"{name}.ffn_down.weight", (drafter.ffn, width)


def typed(shapes: Iterator[tuple[str, tuple[int, ...]]], quant: str, *, pure: bool) -> list[Tensor]:
    """The tensors with llama.cpp's types. `pure`: one type for all matrices, as Unsloth's QAT files have."""
    named = list(shapes)
    downs = [name for name, _ in named if "ffn_down" in name and name.endswith(".weight")]
    values = [name for name, _ in named if "attn_v" in name]
    more = {name for group in (downs, values) for name in group if more_bits(name, group)}
    return [Tensor(name, shape, kind_of(name, shape, quant, more=name in more, pure=pure)) for name, shape in named]


def more_bits(name: str, group: list[str]) -> bool:
    """llama.cpp's `use_more_bits`: the first and last eighth, and each third layer between. Experts count by layer,
    the rest by order."""
    layers = 1 + max(int(other.split(".")[1]) for other in group)
    mixture = any("exps" in other for other in group)
    place, count = (int(name.split(".")[1]), layers) if mixture else (group.index(name), len(group))
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def kind_of(name: str, shape: tuple[int, ...], quant: str, *, more: bool, pure: bool) -> Type:
    if len(shape) < 2 or "ffn_gate_inp" in name:
        return Type.F32
    if "per_layer_model_proj" in name and not pure:
        return Type.BF16
    kind = BASE[quant]
    if (not pure and kind in (Type.Q4_0, Type.Q4_K) and name == "token_embd.weight") or (quant == "Q4_K_M" and more):
        kind = Type.Q6_K
    return FALLBACK.get(kind, kind) if shape[0] % gguf.GGML_QUANT_SIZES[kind][0] else kind


def target_tensors(shape: Architecture, quant: str, *, pure: bool = False) -> list[Tensor]:
    return typed(target_shapes(shape, idle_kv=not pure), quant, pure=pure)


def drafter_tensors(drafter: Drafter, target: Architecture, quant: str, *, pure: bool = False) -> list[Tensor]:
    return typed(drafter_shapes(drafter, target), quant, pure=pure)


def write_target(path: Path, model: ModelProfile, quant: str, *, pure: bool = False, vocabulary: bool = False) -> Path:
    """A target of the catalogue's size. `vocabulary`: with synthetic tokens, which a server needs."""
    shape = model.architecture
    out = gguf.GGUFWriter(None, "gemma4")
    pattern = sliding(shape)
    own = shape.layers - shape.kv_shared_layers
    common_metadata(out, shape, pattern, shape.kv_shared_layers)
    out.add_name(model.name)
    out.add_embedding_length(shape.hidden)
    out.add_block_count(shape.layers)
    if shape.ffn_shared:
        out.add_feed_forward_length([shape.ffn] * own + [shape.ffn_shared] * shape.kv_shared_layers)
    else:
        out.add_feed_forward_length(shape.ffn)
    out.add_head_count(shape.heads)
    out.add_head_count_kv([shape.kv_heads_local if slides else shape.kv_heads_global for slides in pattern])
    out.add_uint32("gemma4.embedding_length_per_layer_input", shape.per_layer_embedding)
    out.add_float32("gemma4.final_logit_softcapping", 30.0)
    if shape.experts:
        out.add_expert_count(shape.experts)
        out.add_expert_used_count(shape.experts_used)
        out.add_expert_feed_forward_length(shape.expert_ffn)
    tokenizer(out, shape.vocab, vocabulary=vocabulary)
    return write(path, out, target_tensors(shape, quant, pure=pure))


def write_drafter(path: Path, model: ModelProfile, quant: str, *, pure: bool = False, vocabulary: bool = False) -> Path:
    """The drafter of a size."""
    shape, drafter = model.architecture, model.drafter
    out = gguf.GGUFWriter(None, "gemma4-assistant")
    common_metadata(out, shape, tuple(layer < drafter.layers - 1 for layer in range(drafter.layers)), drafter.layers)
    out.add_name(f"{model.name} assistant")
    out.add_embedding_length(drafter.hidden)
    out.add_block_count(drafter.layers)
    out.add_feed_forward_length(drafter.ffn)
    out.add_head_count(drafter.heads)
    out.add_head_count_kv([*[shape.kv_heads_local] * (drafter.layers - 1), shape.kv_heads_global])
    out.add_uint32("gemma4-assistant.embedding_length_out", shape.hidden)
    out.add_uint32("gemma4-assistant.nextn_predict_layers", drafter.layers)
    tokenizer(out, shape.vocab, vocabulary=vocabulary)
    return write(path, out, drafter_tensors(drafter, shape, quant, pure=pure))


def common_metadata(out: gguf.GGUFWriter, shape: Architecture, pattern: tuple[bool, ...], shared: int) -> None:
    arch = out.arch
    out.add_context_length(shape.max_context)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_key_length(shape.head_dim_global)
    out.add_value_length(shape.head_dim_global)
    out.add_uint32(f"{arch}.attention.key_length_swa", shape.head_dim_local)
    out.add_uint32(f"{arch}.attention.value_length_swa", shape.head_dim_local)
    out.add_rope_freq_base(1_000_000.0)
    out.add_float32(f"{arch}.rope.freq_base_swa", 10_000.0)
    out.add_rope_dimension_count(shape.head_dim_global)
    out.add_uint32(f"{arch}.rope.dimension_count_swa", shape.head_dim_local)
    out.add_sliding_window(shape.window)
    out.add_array(f"{arch}.attention.sliding_window_pattern", list(pattern))
    out.add_uint32(f"{arch}.attention.shared_kv_layers", shared)


def tokenizer(out: gguf.GGUFWriter, size: int, *, vocabulary: bool) -> None:
    if not vocabulary:
        out.add_tokenizer_model("none")
        out.add_vocab_size(size)
        return
    kinds = gguf.TokenType
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", "▁"]
    types = [int(kinds.CONTROL)] * 4 + [int(kinds.BYTE)] * 256 + [int(kinds.NORMAL)] * 2
    tokens += [f"t{index}" for index in range(len(tokens), size)]
    types += [int(kinds.NORMAL)] * (size - len(types))
    out.add_tokenizer_model("gemma4")
    out.add_token_list(tokens)
    out.add_token_scores([0.0] * size)
    out.add_token_types(types)
    out.add_token_merges(["t 1"])
    out.add_bos_token_id(2)
    out.add_eos_token_id(1)
    out.add_pad_token_id(0)


def write(path: Path, out: gguf.GGUFWriter, tensors: list[Tensor]) -> Path:
    """The header, then `truncate` to the length that the tensors would fill."""
    for tensor in tensors:
        out.add_tensor_info(tensor.name, tensor.shape[::-1], "float32", tensor.size, raw_dtype=tensor.kind)
    out.open_output_file(path)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_ti_data_to_file()
    out.close()
    data = -(-path.stat().st_size // out.data_alignment) * out.data_alignment
    os.truncate(path, data + sum(gguf.GGUFWriter.ggml_pad(tensor.size, out.data_alignment) for tensor in tensors))
    return path
