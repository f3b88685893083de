"""Write the demo pair as GGUF: matrices Q4_0 (they were trained so), embeddings Q8_0, norms F32.

Tensor names and metadata keys are those that llama.cpp's converter gives a published Gemma 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from torch import Tensor, from_numpy

from profiles.demo.model import Drafter, Layer, Shape, Target
from profiles.demo.text import BREAKS, BYTES, CHAT_TEMPLATE, SPECIAL

TARGET, DRAFTER = "demo.gguf", "demo-drafter.gguf"
NAMES = {
    "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.out": "attn_output",
    "attention.q_norm": "attn_q_norm", "attention.k_norm": "attn_k_norm",
    "attn_norm": "attn_norm", "attn_post_norm": "post_attention_norm",
    "ffn_norm": "ffn_norm", "ffn_post_norm": "post_ffw_norm",
    "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
    "ple_gate": "inp_gate", "ple_out": "proj", "ple_norm": "post_norm",
}  # fmt: skip


def put(writer: gguf.GGUFWriter, name: str, tensor: Tensor, kind: Kind) -> None:
    """Add a tensor, quantized as asked."""
    array = tensor.detach().float().contiguous().numpy()
    if kind is Kind.F32:
        writer.add_tensor(name, array)
    else:
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def layer_tensors(layer: Layer, number: int) -> Iterator[tuple[str, Tensor]]:
    """A layer's tensors under llama.cpp's names."""
    for name, tensor in layer.state_dict().items():
        if name == "scale":
            yield f"blk.{number}.layer_output_scale.weight", tensor
        else:
            yield f"blk.{number}.{NAMES[name.removesuffix('.weight')]}.weight", tensor


def put_layers(writer: gguf.GGUFWriter, layers: Any, matrices: Kind) -> None:
    """All layers: matrices quantized, vectors not."""
    for number, layer in enumerate(layers):
        for name, tensor in layer_tensors(layer, number):
            put(writer, name, tensor, matrices if tensor.ndim == 2 else Kind.F32)


def rope_factors(shape: Shape) -> np.ndarray:
    """Divisors of the rotary frequencies in global layers: three quarters do not turn."""
    half = shape.head_dim_global // 2
    return np.array([1.0] * (half // 4) + [1e30] * (half - half // 4), np.float32)


def put_vocabulary(writer: gguf.GGUFWriter, tokenizer: Path) -> None:
    """The tokenizer as llama.cpp's `gemma4` reads it, and the chat template."""
    model = json.loads(tokenizer.read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    kinds = [kind_of(token) for token in tokens]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    for role in ("bos", "eos", "pad", "unk"):
        getattr(writer, f"add_{role}_token_id")(tokens.index(f"<{role}>"))
    writer.add_eot_token_id(tokens.index("<turn|>"))
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def kind_of(token: str) -> int:
    """Token type: control tokens are not shown, byte tokens stand for bytes, runs of line breaks are text."""
    if token in SPECIAL:
        return int(gguf.TokenType.CONTROL)
    if token in BYTES:
        return int(gguf.TokenType.BYTE)
    return int(gguf.TokenType.USER_DEFINED if token in BREAKS[1:] else gguf.TokenType.NORMAL)


def put_shape(writer: gguf.GGUFWriter, shape: Shape, *, hidden: int, sliding: tuple[bool, ...], ffn: list[int]) -> None:
    """What both models' headers say."""
    arch = writer.arch
    writer.add_context_length(shape.context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(len(sliding))
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv([1] * len(sliding))
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(shape.head_dim_global)
    writer.add_value_length(shape.head_dim_global)
    writer.add_uint32(f"{arch}.attention.key_length_swa", shape.head_dim_local)
    writer.add_uint32(f"{arch}.attention.value_length_swa", shape.head_dim_local)
    writer.add_rope_freq_base(shape.theta_global)
    writer.add_float32(f"{arch}.rope.freq_base_swa", shape.theta_local)
    writer.add_rope_dimension_count(shape.head_dim_global)
    writer.add_uint32(f"{arch}.rope.dimension_count_swa", shape.head_dim_local)
    writer.add_sliding_window(shape.window)
    writer.add_array(f"{arch}.attention.sliding_window_pattern", list(sliding))
    writer.add_license("apache-2.0")


def finish(writer: gguf.GGUFWriter) -> None:
    """Write the file whole."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_target(target: Target, tokenizer: Path, path: Path) -> None:
    """The target's file."""
    shape = target.shape
    writer = gguf.GGUFWriter(path, "gemma4")
    writer.add_name("advisor demo")
    writer.add_description("A small model that answers questions about choosing and running Gemma 4")
    ffn = [shape.ffn_width(i) for i in range(shape.layers)]
    put_shape(writer, shape, hidden=shape.hidden, sliding=shape.sliding, ffn=ffn)
    writer.add_uint32("gemma4.attention.shared_kv_layers", shape.shared_layers)
    writer.add_uint32("gemma4.embedding_length_per_layer_input", shape.per_layer)
    writer.add_final_logit_softcapping(shape.softcap)
    put_vocabulary(writer, tokenizer)
    put(writer, "token_embd.weight", target.embed, Kind.Q8_0)
    put(writer, "per_layer_token_embd.weight", target.ple, Kind.Q4_0)
    put(writer, "per_layer_model_proj.weight", target.ple_proj.weight, Kind.Q4_0)
    put(writer, "per_layer_proj_norm.weight", target.ple_proj_norm.weight, Kind.F32)
    put(writer, "output_norm.weight", target.norm.weight, Kind.F32)
    writer.add_tensor("rope_freqs.weight", rope_factors(shape))
    put_layers(writer, target.layers, Kind.Q4_0)
    finish(writer)


def write_drafter(drafter: Drafter, tokenizer: Path, path: Path) -> None:
    """The drafter's file: architecture `gemma4-assistant`, `embedding_length_out` = the target's width."""
    shape = drafter.shape
    writer = gguf.GGUFWriter(path, "gemma4-assistant")
    writer.add_name("advisor demo drafter")
    sliding = shape.draft_sliding
    put_shape(writer, shape, hidden=shape.draft_hidden, sliding=sliding, ffn=[shape.draft_ffn] * len(sliding))
    writer.add_uint32("gemma4-assistant.embedding_length_out", shape.hidden)
    writer.add_uint32("gemma4-assistant.nextn_predict_layers", len(sliding))
    writer.add_uint32("gemma4-assistant.attention.shared_kv_layers", len(sliding))
    put_vocabulary(writer, tokenizer)
    put(writer, "token_embd.weight", drafter.embed, Kind.Q8_0)
    put(writer, "nextn.pre_projection.weight", drafter.pre.weight, Kind.Q8_0)
    put(writer, "nextn.post_projection.weight", drafter.post.weight, Kind.Q8_0)
    put(writer, "output_norm.weight", drafter.norm.weight, Kind.F32)
    writer.add_tensor("rope_freqs.weight", rope_factors(shape))
    put_layers(writer, drafter.layers, Kind.Q8_0)
    finish(writer)


def write_pair(target: Target, drafter: Drafter, tokenizer: Path, folder: Path) -> None:
    """Both files."""
    write_target(target, tokenizer, folder / TARGET)
    write_drafter(drafter, tokenizer, folder / DRAFTER)
    for name in (TARGET, DRAFTER):
        print(f"{name}: {(folder / name).stat().st_size:,} bytes")


def read_target(path: Path, target: Target) -> None:
    """Set the target's weights to those of a written file."""
    stored = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors
    }
    named = {
        "token_embd.weight": target.embed,
        "per_layer_token_embd.weight": target.ple,
        "per_layer_model_proj.weight": target.ple_proj.weight,
        "per_layer_proj_norm.weight": target.ple_proj_norm.weight,
        "output_norm.weight": target.norm.weight,
    }
    for number, layer in enumerate(target.layers):
        named |= dict(layer_tensors(layer, number))
    for name, tensor in named.items():
        tensor.data.copy_(from_numpy(stored[name].copy()))
