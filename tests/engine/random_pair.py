"""Writes a Gemma-4-shaped pair with random weights: the drafter is never right, and every shape of the format is there.

Sliding and global layers, layers that share a KV cache, per-layer embeddings, byte fallback, a chat template, quantized
matrices (an f16 model hides a build that cannot multiply quantized ones).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

WINDOW = 64
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>"]
MERGES = ["t h", "th e", "i n", "a n", "e r", "o n", "▁ the", "▁ a", "an d", "r e", "▁ and", "o r", "in g"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


class Pair(NamedTuple):
    target: Path
    drafter: Path


class Shape(NamedTuple):
    """Widths of one of the two models; `sliding`: for each layer, whether it slides."""

    width: int
    ffn: int
    heads: int
    sliding: tuple[bool, ...]
    head_local: int = 32
    head_global: int = 64
    per_layer: int = 32

    def head(self, layer: int) -> int:
        return self.head_local if self.sliding[layer] else self.head_global


TARGET = Shape(width=128, ffn=256, heads=4, sliding=(True, True, True, False, True, False))
DRAFTER = Shape(width=64, ffn=128, heads=4, sliding=(True, False))
OWN_KV = 4


def vocabulary() -> tuple[list[str], list[int]]:
    """Tokens and their GGUF types: special, the 256 bytes, printable ASCII, merged pieces."""
    kinds = gguf.TokenType
    tokens, types = list(SPECIAL), [int(kinds.CONTROL)] * len(SPECIAL)
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [int(kinds.BYTE)] * 256
    plain = ["\n", "\n\n", "▁", *(chr(code) for code in range(33, 127))] + [
        "".join(merge.split(" ")) for merge in MERGES
    ]
    tokens += plain
    types += [int(kinds.NORMAL)] * len(plain)
    return tokens, types


class Writer:
    """A GGUF of one architecture with random tensors, reproducible by `seed`."""

    def __init__(self, path: Path, architecture: str, seed: int, *, precise: bool = False) -> None:
        self.out = gguf.GGUFWriter(path, architecture)
        self.precise = precise
        self.without = ""
        """The name of a tensor that is left out."""
        self.random = np.random.default_rng(seed)

    def matrix(self, name: str, columns: int, rows: int, *, zero: tuple[int, ...] = ()) -> None:
        values = self.random.normal(0, 0.08, (rows, columns)).astype(np.float32)
        values[list(zero)] = 0
        if self.precise:
            self.out.add_tensor(f"{name}.weight", values)
            return
        kind = gguf.GGMLQuantizationType.Q4_0
        self.out.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)

    def ones(self, name: str, size: int) -> None:
        if name == self.without:
            return
        self.out.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    def layer(self, shape: Shape, index: int, *, own_kv: bool) -> None:
        """What target and drafter have in common: queries, output, MLP and norms; K and V where the layer owns them."""
        name, width, head = f"blk.{index}", shape.width, shape.head(index)
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            self.ones(f"{name}.{norm}", width)
        self.ones(f"{name}.attn_q_norm", head)
        self.matrix(f"{name}.attn_q", width, head * shape.heads)
        self.matrix(f"{name}.attn_output", head * shape.heads, width)
        self.matrix(f"{name}.ffn_gate", width, shape.ffn)
        self.matrix(f"{name}.ffn_up", width, shape.ffn)
        self.matrix(f"{name}.ffn_down", shape.ffn, width)
        self.ones(f"{name}.layer_output_scale", 1)
        if own_kv:
            self.ones(f"{name}.attn_k_norm", head)
            self.matrix(f"{name}.attn_k", width, head)
            self.matrix(f"{name}.attn_v", width, head)

    def metadata(self, shape: Shape, shared_kv: int) -> None:
        out, arch = self.out, self.out.arch
        out.add_context_length(131072)
        out.add_embedding_length(shape.width)
        out.add_block_count(len(shape.sliding))
        out.add_feed_forward_length(shape.ffn)
        out.add_head_count(shape.heads)
        out.add_head_count_kv(1)
        out.add_layer_norm_rms_eps(1e-6)
        out.add_key_length(shape.head_global)
        out.add_value_length(shape.head_global)
        out.add_uint32(f"{arch}.attention.key_length_swa", shape.head_local)
        out.add_uint32(f"{arch}.attention.value_length_swa", shape.head_local)
        out.add_rope_freq_base(1_000_000.0)
        out.add_float32(f"{arch}.rope.freq_base_swa", 10_000.0)
        out.add_rope_dimension_count(shape.head_global)
        out.add_uint32(f"{arch}.rope.dimension_count_swa", shape.head_local)
        out.add_sliding_window(WINDOW)
        out.add_array(f"{arch}.attention.sliding_window_pattern", list(shape.sliding))
        out.add_uint32(f"{arch}.attention.shared_kv_layers", shared_kv)

    def tokenizer(self) -> int:
        tokens, types = vocabulary()
        self.out.add_tokenizer_model("gemma4")
        self.out.add_token_list(tokens)
        self.out.add_token_scores([0.0] * len(tokens))
        self.out.add_token_types(types)
        self.out.add_token_merges(MERGES)
        self.out.add_bos_token_id(2)
        self.out.add_eos_token_id(1)
        self.out.add_pad_token_id(0)
        self.out.add_add_bos_token(True)
        self.out.add_add_space_prefix(False)
        self.out.add_chat_template(TEMPLATE)
        return len(tokens)

    def close(self) -> None:
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()


def rope(shape: Shape) -> np.ndarray:
    """Proportional rotary embedding: a quarter of the dimensions turns."""
    half = shape.head_global // 2
    return np.array([1.0] * (half // 4) + [1e30] * (half - half // 4), np.float32)


def write_target(
    path: Path, shape: Shape = TARGET, *, endless: bool = False, precise: bool = False, without: str = ""
) -> None:
    """A target.

    Args:
        endless: it never ends an answer by itself: no score for the tokens that would.
        precise: 32-bit weights, whose rounding is too small to change an answer.
        without: the name of a norm that is left out, which only llama.cpp notices.
    """
    w = Writer(path, "gemma4", seed=1, precise=precise)
    w.without = without
    layers, width = len(shape.sliding), shape.width
    w.metadata(shape, layers - OWN_KV)
    w.out.add_uint32("gemma4.embedding_length_per_layer_input", shape.per_layer)
    w.out.add_float32("gemma4.final_logit_softcapping", 30.0)
    size = w.tokenizer()
    w.matrix("token_embd", width, size)
    w.matrix("output", width, size, zero=(1, 5) if endless else ())
    w.ones("output_norm", width)
    w.out.add_tensor("rope_freqs.weight", rope(shape))
    w.matrix("per_layer_token_embd", shape.per_layer * layers, size)
    w.matrix("per_layer_model_proj", width, shape.per_layer * layers)
    w.ones("per_layer_proj_norm", shape.per_layer)
    for index in range(layers):
        w.layer(shape, index, own_kv=index < OWN_KV)
        w.matrix(f"blk.{index}.inp_gate", width, shape.per_layer)
        w.matrix(f"blk.{index}.proj", shape.per_layer, width)
        w.ones(f"blk.{index}.post_norm", width)
    w.close()


def write_drafter(path: Path, backbone: int = TARGET.width, architecture: str = "gemma4-assistant") -> None:
    w = Writer(path, architecture, seed=2)
    shape = DRAFTER
    w.metadata(shape, 0)
    w.out.add_uint32(f"{architecture}.embedding_length_out", backbone)
    w.out.add_uint32(f"{architecture}.nextn_predict_layers", len(shape.sliding))
    size = w.tokenizer()
    w.matrix("token_embd", shape.width, size)
    w.ones("output_norm", shape.width)
    w.matrix("nextn.post_projection", shape.width, backbone)
    w.matrix("nextn.pre_projection", 2 * backbone, shape.width)
    w.out.add_tensor("rope_freqs.weight", rope(shape))
    for index in range(len(shape.sliding)):
        w.layer(shape, index, own_kv=False)
    w.close()


def write(folder: Path, *, endless: bool = False, precise: bool = False) -> Pair:
    """The pair in `folder`: `random.gguf` and `random-drafter.gguf`."""
    pair = Pair(folder / "random.gguf", folder / "random-drafter.gguf")
    write_target(pair.target, endless=endless, precise=precise)
    write_drafter(pair.drafter)
    return pair
