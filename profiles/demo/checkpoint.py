"""The demo pair as Hugging Face checkpoints, made from the GGUF files: for the runtimes that read those.

    python -m profiles.demo.checkpoint [FOLDER]

The same weights, dequantized to float32, so nothing is lost; the same vocabulary, merges and chat template. Made in a
second, always the same bytes, and therefore no part of the installation. The target has the shape of the published
ones (`gemma4`, with the text model inside) without a part for images. Needs neither PyTorch nor Transformers.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from advisor import paths

HERE = Path(__file__).parent
TARGET, DRAFTER = HERE / "demo.gguf", HERE / "demo-drafter.gguf"
FORM = 3
"""Of what is written here; another number, and it is made anew."""
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "inp_gate": "per_layer_input_gate", "proj": "per_layer_projection", "post_norm": "post_per_layer_input_norm",
}  # fmt: skip
"""A layer's tensors, llama.cpp's names to Transformers'."""
WHOLE = {
    "token_embd": "embed_tokens", "output_norm": "norm", "per_layer_token_embd": "embed_tokens_per_layer",
    "per_layer_model_proj": "per_layer_model_projection", "per_layer_proj_norm": "per_layer_projection_norm",
}  # fmt: skip
APART = {"nextn.pre_projection": "pre_projection", "nextn.post_projection": "post_projection"}
NORMAL, CONTROL, USER = 1, 3, 4
"""Kinds of tokens in a GGUF: words, marks that are not shown, and texts that are always one token."""


class Pair(NamedTuple):
    """The two folders."""

    target: Path
    drafter: Path


def place(folder: Path | None = None) -> Pair:
    """Where the checkpoints are, or will be: in `folder`, or in the user's cache."""
    # Sizes and dates of two files tell another release of the pair from this one.
    folder = folder or paths.cache_folder() / f"demo-checkpoint-{FORM}-{TARGET.stat().st_size}-{DRAFTER.stat().st_size}"
    return Pair(folder / "demo", folder / "demo-assistant")


def make(folder: Path | None = None, progress: Callable[[str, int, int | None], None] | None = None) -> Pair:
    """Write what is not there yet; an interrupted attempt leaves nothing behind."""
    pair = place(folder)
    for made, source, write in ((pair.target, TARGET, write_target), (pair.drafter, DRAFTER, write_drafter)):
        if made.is_dir():
            continue
        made.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f".{made.name}-", dir=made.parent))
        try:
            write(gguf.GGUFReader(source), half)
            if progress:
                done = sum(file.stat().st_size for file in half.iterdir())
                progress(made.name, done, done)
            half.rename(made)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            if not made.is_dir():  # another process may have been quicker
                raise
    return pair


# ---- Configurations


def write_target(source: gguf.GGUFReader, folder: Path) -> None:
    """The target's checkpoint."""
    text = text_config(source)
    per_layer = int(field(source, "embedding_length_per_layer_input"))
    text |= {
        "final_logit_softcapping": float(field(source, "final_logit_softcapping")),
        "hidden_size_per_layer_input": per_layer,
        "num_kv_shared_layers": int(field(source, "attention.shared_kv_layers")),
        "use_double_wide_mlp": True,
        "vocab_size_per_layer_input": text["vocab_size"],
    }
    config = {
        # What vLLM goes by: of a model without eyes it loads the text part only.
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4",
        "text_config": text,
    }
    write(source, folder, config, "model.language_model.")


def write_drafter(source: gguf.GGUFReader, folder: Path) -> None:
    """The drafter's checkpoint. All its layers read the target's cache."""
    text = text_config(source)
    text |= {
        "final_logit_softcapping": None,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": text["num_hidden_layers"],
        "use_double_wide_mlp": False,
        "vocab_size_per_layer_input": 0,
    }
    config = {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "backbone_hidden_size": int(field(source, "embedding_length_out")),
        "model_type": "gemma4_assistant",
        "text_config": text,
        "use_ordered_embeddings": False,
    }
    write(source, folder, config, "model.")


def field(source: gguf.GGUFReader, name: str) -> Any:
    """A value of the header: of the architecture where it has one of that name."""
    arch = source.fields["general.architecture"].contents()
    found = source.fields.get(f"{arch}.{name}") or source.fields[name]
    return found.contents()


def text_config(source: gguf.GGUFReader) -> dict[str, Any]:
    """What both models' text parts have in common."""
    tokens = field(source, "tokenizer.ggml.tokens")
    sliding = field(source, "attention.sliding_window_pattern")
    return {
        "model_type": "gemma4_text",
        "bos_token_id": int(field(source, "tokenizer.ggml.bos_token_id")),
        "dtype": "float32",
        "enable_moe_block": False,
        "eos_token_id": ends(source),
        # Transformers 5.17 keeps what differs between layers in another form; MLX reads this one, and both take it.
        "global_head_dim": int(field(source, "attention.key_length")),
        "head_dim": int(field(source, "attention.key_length_swa")),
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": int(field(source, "embedding_length")),
        "intermediate_size": int(field(source, "feed_forward_length")[0]),
        "layer_types": ["sliding_attention" if each else "full_attention" for each in sliding],
        "max_position_embeddings": int(field(source, "context_length")),
        "num_attention_heads": int(field(source, "attention.head_count")),
        "num_hidden_layers": len(sliding),
        "num_key_value_heads": int(field(source, "attention.head_count_kv")[0]),
        "pad_token_id": int(field(source, "tokenizer.ggml.padding_token_id")),
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "full_attention": {
                "partial_rotary_factor": 0.25,
                "rope_theta": float(field(source, "rope.freq_base")),
                "rope_type": "proportional",
            },
            "sliding_attention": {"rope_theta": float(field(source, "rope.freq_base_swa")), "rope_type": "default"},
        },
        "sliding_window": int(field(source, "attention.sliding_window")),
        "tie_word_embeddings": True,
        "vocab_size": len(tokens),
    }


def ends(source: gguf.GGUFReader) -> list[int]:
    """Tokens that end an answer: of a text, and of a turn."""
    return [int(field(source, f"tokenizer.ggml.{name}_token_id")) for name in ("eos", "eot")]


def write(source: gguf.GGUFReader, folder: Path, config: Mapping[str, Any], prefix: str) -> None:
    """All files of a checkpoint."""
    text = config["text_config"]
    alike = {name: text[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    put(folder / "config.json", {**config, **alike, "dtype": "float32", "tie_word_embeddings": True})
    put(folder / "generation_config.json", {"_from_model_config": True, **alike})
    put(folder / "tokenizer.json", tokenizer(source))
    put(folder / "tokenizer_config.json", tokenizer_config(source))
    (folder / "chat_template.jinja").write_text(field(source, "tokenizer.chat_template"), encoding="utf-8")
    save(folder / "model.safetensors", tensors(source, prefix))


def put(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON."""
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- Weights


def tensors(source: gguf.GGUFReader, prefix: str) -> dict[str, np.ndarray]:
    """Every tensor in float32 under Transformers' name. Rotary factors follow from the configuration."""
    found = {}
    for tensor in source.tensors:
        name = tensor.name.removesuffix(".weight")
        if name == "rope_freqs":
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        found[renamed(name, prefix)] = np.ascontiguousarray(values, np.float32)
    return found


def renamed(name: str, prefix: str) -> str:
    """Transformers' name of a tensor that llama.cpp calls `name`."""
    if name in APART:
        return f"{APART[name]}.weight"
    if name in WHOLE:
        return f"{prefix}{WHOLE[name]}.weight"
    _, number, part = name.split(".")
    known = "layer_scalar" if part == "layer_output_scale" else f"{NAMES[part]}.weight"
    return f"{prefix}layers.{number}.{known}"


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write safetensors: eight bytes of length, a header in JSON, the numbers. The package for it is no dependency."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, array in sorted(arrays.items()):
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in sorted(arrays.items()):
            file.write(array.astype("<f4").tobytes())


# ---- Tokenizer


def tokenizer(source: gguf.GGUFReader) -> dict[str, Any]:
    """`tokenizer.json`: pairs merged inside lines, bytes for what is unknown, spaces written as U+2581."""
    tokens, kinds = field(source, "tokenizer.ggml.tokens"), field(source, "tokenizer.ggml.token_type")
    marks = [number for number, kind in enumerate(kinds) if kind in (CONTROL, USER)]
    added = [
        {
            "id": number, "content": tokens[number], "special": kinds[number] == CONTROL, "normalized": False,
            "single_word": False, "lstrip": False, "rstrip": False,
        }
        for number in marks
    ]  # fmt: skip
    begin = tokens[field(source, "tokenizer.ggml.bos_token_id")]
    first = {"SpecialToken": {"id": begin, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": "\n+"}, "behavior": "Isolated", "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [tokens.index(begin)], "tokens": [begin]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in field(source, "tokenizer.ggml.merges")],
        },
    }  # fmt: skip


def tokenizer_config(source: gguf.GGUFReader) -> dict[str, Any]:
    """What Transformers wants to know beside it."""
    tokens = field(source, "tokenizer.ggml.tokens")
    named = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    spelled = {
        f"{short}_token": tokens[field(source, f"tokenizer.ggml.{name}_token_id")] for short, name in named.items()
    }
    return {
        **spelled,
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(field(source, "context_length")),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


if __name__ == "__main__":
    for made in make(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(f"{made}: {sum(file.stat().st_size for file in made.iterdir()):,} bytes")
