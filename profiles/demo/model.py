"""The demo pair in PyTorch: a small target of architecture `gemma4` and its `gemma4-assistant` drafter.

Written after llama.cpp's graphs (`src/models/gemma4.cpp`, `src/models/gemma4-assistant.cpp`), which are what will run
the result. Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """A target with the E-series' traits, and its drafter. Every fifth layer is global, as in E2B."""

    vocab: int = 4096
    hidden: int = 320
    layers: int = 15
    shared_layers: int = 10
    ffn: int = 672
    heads: int = 4
    head_dim_local: int = 64
    head_dim_global: int = 128
    window: int = 128
    per_layer: int = 32
    context: int = 2048
    softcap: float = 30.0
    theta_local: float = 10_000.0
    theta_global: float = 1_000_000.0
    draft_hidden: int = 128
    draft_layers: int = 2
    draft_ffn: int = 512
    sliding: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sliding", tuple((i + 1) % 5 != 0 for i in range(self.layers)))

    @property
    def own_layers(self) -> int:
        """Layers with a KV cache of their own; the last two are a sliding and a global one, which the others read."""
        return self.layers - self.shared_layers

    @property
    def draft_sliding(self) -> tuple[bool, ...]:
        """The drafter's layers: the last is global."""
        return tuple(i < self.draft_layers - 1 for i in range(self.draft_layers))

    def head_dim(self, sliding: bool) -> int:
        return self.head_dim_local if sliding else self.head_dim_global

    def ffn_width(self, layer: int) -> int:
        """Layers without a cache have an MLP twice as wide."""
        return self.ffn if layer < self.own_layers else 2 * self.ffn


def fake_q4_0(weight: Tensor) -> Tensor:
    """The weight as llama.cpp's Q4_0 holds it (blocks of 32, scale = extreme / -8 in f16); gradients pass through."""
    blocks = weight.reshape(-1, 32)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = (extreme / -8).half().to(weight.dtype)
    inverse = torch.where(scale == 0, torch.zeros_like(scale), -8 / extreme)
    steps = (blocks * inverse + 8.5).floor().clamp(0, 15) - 8
    quantized = (steps * scale).reshape(weight.shape)
    return weight + (quantized - weight).detach()


class Matrix(nn.Module):
    """A linear map without bias; with `quantized` set it computes with its Q4_0 image (quantization-aware training)."""

    quantized = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * (0.7 / math.sqrt(inputs)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, (fake_q4_0(self.weight) if self.quantized else self.weight).to(x.dtype))


class Norm(nn.Module):
    """RMS norm with a scale, in float32 as llama.cpp computes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms(x, self.weight)


def rms(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """x / rms(x), times the weight where there is one."""
    y = x.float()
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
    return (y if weight is None else y * weight).to(x.dtype)


def frequencies(shape: Shape, sliding: bool) -> Tensor:
    """Rotary frequencies, half a head's width; in global layers only the first quarter turns ("proportional" RoPE)."""
    width = shape.head_dim(sliding)
    theta = shape.theta_local if sliding else shape.theta_global
    turning = 1.0 / theta ** (torch.arange(0, width, 2).float() / width)
    if not sliding:
        turning[width // 8 :] = 0.0
    return turning


def rotate(x: Tensor, position: Tensor, turning: Tensor) -> Tensor:
    """Rotary embedding, NeoX order. x [B, heads, T, d], position [B, T], turning [d/2]."""
    angle = (position[:, None, :, None].float() * turning).to(torch.float32)
    cos, sin = angle.cos(), angle.sin()
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Scores are not scaled: Gemma 4 normalises queries and keys instead. q [B, heads, T, d], k and v [B, 1, S, d]."""
    heads = q.shape[1]
    out = F.scaled_dot_product_attention(
        q, k.expand(-1, heads, -1, -1), v.expand(-1, heads, -1, -1), attn_mask=mask, scale=1.0
    )
    return out.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Queries always; keys and values only where the layer owns a cache."""

    def __init__(self, shape: Shape, width: int, *, sliding: bool, owns_cache: bool) -> None:
        super().__init__()
        self.heads, self.dim = shape.heads, shape.head_dim(sliding)
        self.sliding = sliding
        self.q = Matrix(width, self.heads * self.dim)
        self.q_norm = Norm(self.dim)
        nn.init.constant_(self.q_norm.weight, 2 / math.sqrt(self.dim))
        self.out = Matrix(self.heads * self.dim, width)
        self.owns_cache = owns_cache
        if owns_cache:
            self.k = Matrix(width, self.dim)
            self.v = Matrix(width, self.dim)
            self.k_norm = Norm(self.dim)
        self.register_buffer("turning", frequencies(shape, sliding), persistent=False)

    def keys_values(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """What the cache holds: [B, 1, T, d] each."""
        k = rotate(self.k_norm(self.k(x))[:, None], position, self.turning)
        return k, rms(self.v(x))[:, None]

    def forward(self, x: Tensor, position: Tensor, cache: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, self.dim)).transpose(1, 2)
        q = rotate(self.q_norm(q), position, self.turning)
        return self.out(attend(q, *cache, mask))


class FeedForward(nn.Module):
    """GELU-gated MLP."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = Matrix(width, inner), Matrix(width, inner), Matrix(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class Layer(nn.Module):
    """One layer of either model: norms before and after attention and MLP; per-layer embedding in the target only."""

    def __init__(
        self, shape: Shape, width: int, inner: int, *, sliding: bool, owns_cache: bool, per_layer: int
    ) -> None:
        super().__init__()
        self.attention = Attention(shape, width, sliding=sliding, owns_cache=owns_cache)
        self.mlp = FeedForward(width, inner)
        self.attn_norm, self.attn_post_norm = Norm(width), Norm(width)
        self.ffn_norm, self.ffn_post_norm = Norm(width), Norm(width)
        self.scale = nn.Parameter(torch.ones(1))
        self.per_layer = per_layer
        if per_layer:
            self.ple_gate, self.ple_out = Matrix(width, per_layer), Matrix(per_layer, width)
            self.ple_norm = Norm(width)

    def forward(
        self, x: Tensor, position: Tensor, cache: tuple[Tensor, Tensor], mask: Tensor, ple: Tensor | None = None
    ) -> Tensor:
        x = x + self.attn_post_norm(self.attention(self.attn_norm(x), position, cache, mask))
        x = x + self.ffn_post_norm(self.mlp(self.ffn_norm(x)))
        if ple is not None:
            gated = F.gelu(self.ple_gate(x), approximate="tanh") * ple
            x = x + self.ple_norm(self.ple_out(gated))
        return x * self.scale.to(x.dtype)


@dataclass
class Seen:
    """What the target computed: `hidden` [B, T, hidden] after the final norm, and the two caches a drafter reads."""

    hidden: Tensor
    sliding: tuple[Tensor, Tensor]
    globe: tuple[Tensor, Tensor]


class Target(nn.Module):
    """Gemma 4, E-series: per-layer embeddings, shared KV layers, sliding and global attention, tied head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Parameter(torch.randn(shape.vocab, shape.hidden) * 0.02)
        self.ple = nn.Parameter(torch.randn(shape.vocab, shape.layers * shape.per_layer) * 0.1)
        self.ple_proj = Matrix(shape.hidden, shape.layers * shape.per_layer)
        self.ple_proj_norm = Norm(shape.per_layer)
        self.norm = Norm(shape.hidden)
        self.layers = nn.ModuleList(
            Layer(
                shape, shape.hidden, shape.ffn_width(i),
                sliding=shape.sliding[i], owns_cache=i < shape.own_layers, per_layer=shape.per_layer,
            )
            for i in range(shape.layers)
        )  # fmt: skip

    def embedding(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """[B, T] -> [B, T, hidden], scaled as both models take it."""
        return (F.embedding(tokens, self.embed) * math.sqrt(self.shape.hidden)).to(dtype)

    def per_layer_inputs(self, tokens: Tensor, x: Tensor) -> Tensor:
        """[B, T, layers, per_layer]: the table's row for the token, and a projection of its embedding."""
        table = fake_q4_0(self.ple) if Matrix.quantized else self.ple
        split = (self.shape.layers, self.shape.per_layer)
        looked_up = F.embedding(tokens, table).unflatten(-1, split) * math.sqrt(self.shape.per_layer)
        projected = self.ple_proj(x) / math.sqrt(self.shape.hidden)
        return ((self.ple_proj_norm(projected.unflatten(-1, split)) + looked_up.to(x.dtype)) / math.sqrt(2)).to(x.dtype)

    def forward(self, tokens: Tensor, position: Tensor, masks: tuple[Tensor, Tensor], dtype: torch.dtype) -> Seen:
        """tokens and position [B, T]; masks (sliding, global) [B, 1, T, T] of bool."""
        x = self.embedding(tokens, dtype)
        ple = self.per_layer_inputs(tokens, x)
        caches: dict[bool, tuple[Tensor, Tensor]] = {}
        for i, layer in enumerate(self.layers):
            sliding = self.shape.sliding[i]
            if i < self.shape.own_layers:
                caches[sliding] = layer.attention.keys_values(layer.attn_norm(x), position)
            x = layer(x, position, caches[sliding], masks[0 if sliding else 1], ple[:, :, i])
        return Seen(self.norm(x), caches[True], caches[False])

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., V] in float32, soft-capped."""
        raw = F.linear(hidden, self.embed.to(hidden.dtype)).float()
        return self.shape.softcap * torch.tanh(raw / self.shape.softcap)


class Drafter(nn.Module):
    """The MTP assistant: no cache of its own; reads the target's last sliding and last global cache.

    One step takes the target's embedding of the newest token and a hidden state (the target's, or its own last one),
    and gives logits for the next token and the hidden state for the next step. All steps of a burst are at one
    position.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.draft_hidden
        self.embed = nn.Parameter(torch.randn(shape.vocab, width) * 0.05)
        self.pre = Matrix(2 * shape.hidden, width)
        self.post = Matrix(width, shape.hidden)
        self.norm = Norm(width)
        self.layers = nn.ModuleList(
            Layer(shape, width, shape.draft_ffn, sliding=sliding, owns_cache=False, per_layer=0)
            for sliding in shape.draft_sliding
        )

    def forward(
        self, embedded: Tensor, hidden: Tensor, position: Tensor, seen: Seen, masks: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """embedded, hidden [B, T, hidden] -> logits [B, T, V] in float32, hidden [B, T, hidden]."""
        x = self.pre(torch.cat([embedded, hidden], dim=-1))
        for layer, sliding in zip(self.layers, self.shape.draft_sliding, strict=True):
            x = layer(x, position, seen.sliding if sliding else seen.globe, masks[0 if sliding else 1])
        x = self.norm(x)
        return F.linear(x, self.embed.to(x.dtype)).float(), self.post(x)


def masks(document: Tensor, position: Tensor, window: int, offset: int = 0) -> tuple[Tensor, Tensor]:
    """What each position may see, [B, 1, T, T] of bool: earlier positions of its own document; the first mask also only
    the last `window`. `document`: an id for each position, [B, T]. `offset`: the drafter stands one position further
    than the last cell that it may see.
    """
    row, column = position[:, :, None], position[:, None, :]
    causal = (document[:, :, None] == document[:, None, :]) & (column <= row)
    return (causal & (row + offset - column < window))[:, None], causal[:, None]
