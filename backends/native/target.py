"""The target: the model whose tokens count. Holds how many tokens are in its cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backends.native.library import Batch, Context, ContextFull, Hidden, Logits, Model
from backends.native.reuse import Reuse
from backends.native.threads import Threads

MICRO_BATCH = 512
"""Rows of one decode while reading a prompt; llama.cpp's default, which the memory formula assumes too."""
MAX_DRAFT = 15
"""Most tokens that are verified beside the last one."""


class Target:
    """A target with one sequence in its cache.

    Args:
        context_tokens: length of the context.
        threads: of the processor.
        drafter: whether hidden states are needed.
    """

    def __init__(
        self,
        path: Path,
        *,
        context_tokens: int,
        threads: int,
        gpu_layers: int | None = None,
        drafter: bool = True,
        micro_batch: int = MICRO_BATCH,
    ) -> None:
        self.model = Model(path, gpu_layers=gpu_layers)
        self.context = Context(
            self.model,
            tokens=context_tokens,
            micro_batch=micro_batch,
            outputs=MAX_DRAFT + 1,
            threads=threads,
            hidden=drafter,
        )
        self.tokens: list[int] = []
        """In the cache."""
        self.cached = 0
        """Tokens of the last prompt that were in the cache already."""
        self.reuse = Reuse(self.context)
        self.threads = Threads(threads)
        self._batch = Batch(max(micro_batch, MAX_DRAFT + 1))

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return len(self.tokens)

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.context.tokens - self.length

    def prefill(
        self, tokens: Sequence[int], stopped: Callable[[], bool] = lambda: False, *, reuse: bool = False
    ) -> Logits | None:
        """Read a prompt; scores after its last token, shape [1, vocabulary]; None when stopped.

        Args:
            reuse: keep what the cache already holds of the prompt's beginning (`cached` says how much).

        Raises:
            ContextFull: the prompt leaves no room for an answer; nothing was read.
        """
        if len(tokens) >= self.context.tokens:
            raise ContextFull(
                f"the prompt has {len(tokens):,} tokens; the context of {self.context.tokens:,} must hold "
                "it and the answer",
                hint="shorten the prompt or ask for a longer context",
            )
        if reuse:
            del self.tokens[self.reuse.back(self.tokens, tokens) :]
        else:
            self._empty()
        self.cached = self.length
        checkpoint = self.reuse.wants(tokens, self.length) if reuse else 0
        while self.length < len(tokens):
            if stopped():
                return None
            end = min(self.length + self.context.micro_batch, len(tokens))
            end = checkpoint if self.length < checkpoint < end else end
            self._decode(tokens[self.length : end], all_wanted=False)
            if self.length == checkpoint:
                self.reuse.take(checkpoint)
        return self.context.logits(1)

    def _empty(self) -> None:
        self.context.clear()
        self.reuse.checkpoints.clear()
        self.tokens.clear()

    def step(self, tokens: Sequence[int], rows: int = 0) -> Logits:
        """Append `tokens`; scores after each of them, shape [len(tokens), vocabulary].

        Args:
            rows: decode so many, filled up with tokens that are to be dropped again; some counts cost less than smaller
                ones.
        """
        began = time.perf_counter()
        more = rows - len(tokens)
        self._decode([*tokens, *[0] * more] if more > 0 else tokens, all_wanted=True)
        logits = self.context.logits(len(tokens))
        self.context.use_threads(self.threads.record(max(rows, len(tokens)), time.perf_counter() - began))
        return logits

    def _decode(self, tokens: Sequence[int], *, all_wanted: bool) -> None:
        self._batch.fill(tokens, len(self.tokens), all_wanted=all_wanted)
        self.context.decode(self._batch)
        self.tokens += tokens

    def hidden(self, row: int) -> Hidden:
        """The state after wanted row `row` of the last decode, shape [width]; -1 is the last."""
        return self.context.hidden(row)

    def keep(self, length: int) -> None:
        """Drop what is in the cache beyond `length` tokens."""
        if length < len(self.tokens):
            self.context.keep(length)
            del self.tokens[length:]

    def close(self) -> None:
        self.context.close()
        self.model.close()
