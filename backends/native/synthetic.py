"""A Gemma-shaped model with the widths of a real one, a few of its layers, and random weights: its steps take as long
per byte as the real one's, and it is written in a second instead of being fetched for minutes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

Q4_0_BLOCK, Q4_0_BYTES = 32, 18
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>"]
CONTEXT, WINDOW = 4096, 512


class Shape(NamedTuple):
    """Widths of a model; `sliding`: for each layer, whether it slides."""

    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_local: int
    head_global: int
    sliding: tuple[bool, ...]
    per_layer: int = 32
    """Of the small per-layer input that llama.cpp's graph of this architecture takes."""


LIKE_12B = Shape(
    width=3840, ffn=15360, heads=16, kv_heads=8, head_local=256, head_global=512, sliding=(True, False)
)  # fmt: skip
"""Two of the 12B's 48 layers: 230 MB at four bits, more than any usual cache."""
MORE_LAYERS = LIKE_12B._replace(sliding=(True, False) * 3)
"""Six of them. What they take longer than two is a layer's time, without all that a step takes besides."""


def passed(shape: Shape) -> int:
    """Weights that each token of a prompt passes, all layers' (two of them took 1.46 times as long with one that slides
    added, where that is 1.45 times the weights); the small per-layer input's are left out."""
    total = 0
    for slides in shape.sliding:
        head = shape.head_local if slides else shape.head_global
        total += 2 * shape.width * head * (shape.heads + shape.kv_heads) + 3 * shape.width * shape.ffn
    return total


class Writer:
    """Writes one."""

    def __init__(self, path: Path, shape: Shape, seed: int = 1) -> None:
        self.out = gguf.GGUFWriter(path, "gemma4")
        self.shape = shape
        self.random = np.random.default_rng(seed)

    def matrix(self, name: str, columns: int, rows: int) -> None:
        """Random bits under one small scale."""
        blocks = rows * columns // Q4_0_BLOCK
        data = np.frombuffer(self.random.bytes(blocks * Q4_0_BYTES), np.uint8).reshape(blocks, Q4_0_BYTES).copy()
        data[:, :2] = np.frombuffer(np.float16(0.2 / columns**0.5).tobytes(), np.uint8)
        self.out.add_tensor(
            f"{name}.weight",
            data.reshape(rows, columns // Q4_0_BLOCK * Q4_0_BYTES),
            raw_dtype=gguf.GGMLQuantizationType.Q4_0,
        )

    def ones(self, name: str, size: int) -> None:
        self.out.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    def write(self) -> None:
        shape, layers = self.shape, len(self.shape.sliding)
        self.metadata()
        size = self.tokenizer()
        self.matrix("token_embd", shape.width, size)
        self.matrix("output", shape.width, size)
        self.ones("output_norm", shape.width)
        half = shape.head_global // 2
        turned = [1.0] * (half // 4) + [1e30] * (half - half // 4)
        self.out.add_tensor("rope_freqs.weight", np.array(turned, np.float32))
        self.matrix("per_layer_token_embd", shape.per_layer * layers, size)
        self.matrix("per_layer_model_proj", shape.width, shape.per_layer * layers)
        self.ones("per_layer_proj_norm", shape.per_layer)
        for index in range(layers):
            self.layer(index)
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()

    def layer(self, index: int) -> None:
        shape, name = self.shape, f"blk.{index}"
        head = shape.head_local if shape.sliding[index] else shape.head_global
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm"):
            self.ones(f"{name}.{norm}", shape.width)
        for norm in ("attn_q_norm", "attn_k_norm"):
            self.ones(f"{name}.{norm}", head)
        self.ones(f"{name}.layer_output_scale", 1)
        self.matrix(f"{name}.attn_q", shape.width, head * shape.heads)
        self.matrix(f"{name}.attn_k", shape.width, head * shape.kv_heads)
        self.matrix(f"{name}.attn_v", shape.width, head * shape.kv_heads)
        self.matrix(f"{name}.attn_output", head * shape.heads, shape.width)
        self.matrix(f"{name}.ffn_gate", shape.width, shape.ffn)
        self.matrix(f"{name}.ffn_up", shape.width, shape.ffn)
        self.matrix(f"{name}.ffn_down", shape.ffn, shape.width)
        self.matrix(f"{name}.inp_gate", shape.width, shape.per_layer)
        self.matrix(f"{name}.proj", shape.per_layer, shape.width)

    def metadata(self) -> None:
        out, shape = self.out, self.shape
        out.add_context_length(CONTEXT)
        out.add_embedding_length(shape.width)
        out.add_block_count(len(shape.sliding))
        out.add_feed_forward_length(shape.ffn)
        out.add_head_count(shape.heads)
        out.add_head_count_kv(shape.kv_heads)
        out.add_layer_norm_rms_eps(1e-6)
        out.add_key_length(shape.head_global)
        out.add_value_length(shape.head_global)
        out.add_uint32("gemma4.attention.key_length_swa", shape.head_local)
        out.add_uint32("gemma4.attention.value_length_swa", shape.head_local)
        out.add_rope_freq_base(1_000_000.0)
        out.add_float32("gemma4.rope.freq_base_swa", 10_000.0)
        out.add_rope_dimension_count(shape.head_global)
        out.add_uint32("gemma4.rope.dimension_count_swa", shape.head_local)
        out.add_sliding_window(WINDOW)
        out.add_array("gemma4.attention.sliding_window_pattern", list(shape.sliding))
        out.add_uint32("gemma4.attention.shared_kv_layers", 0)
        out.add_uint32("gemma4.embedding_length_per_layer_input", shape.per_layer)
        out.add_float32("gemma4.final_logit_softcapping", 30.0)

    def tokenizer(self) -> int:
        """The smallest vocabulary that llama.cpp loads: special tokens and the 256 bytes."""
        kinds = gguf.TokenType
        tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", "\u2581", "a", "b", "ab"]
        plain = len(tokens) - len(SPECIAL) - 256
        types = [kinds.CONTROL] * len(SPECIAL) + [kinds.BYTE] * 256 + [kinds.NORMAL] * plain
        while len(tokens) % Q4_0_BLOCK:
            tokens.append(f"<unused{len(tokens)}>")
            types.append(kinds.NORMAL)
        self.out.add_tokenizer_model("gemma4")
        self.out.add_token_list(tokens)
        self.out.add_token_scores([0.0] * len(tokens))
        self.out.add_token_types([int(kind) for kind in types])
        self.out.add_token_merges(["a b"])
        self.out.add_bos_token_id(2)
        self.out.add_eos_token_id(1)
        self.out.add_pad_token_id(0)
        return len(tokens)


def write(path: Path, shape: Shape = LIKE_12B) -> None:
    """Write one to a file; about a quarter of a gigabyte."""
    Writer(path, shape).write()
