"""Drafters: whoever guesses the next tokens. One method; MTP is the one that Gemma 4 comes with."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from advisor.errors import RuntimeFailed
from backends.native.library import Batch, Context, Hidden, Model
from backends.native.target import Target


class Drafter(Protocol):
    def draft(self, token: int, hidden: Hidden, position: int, count: int) -> list[int]:
        """Guess up to `count` tokens after `token`.

        Args:
            token: the last token, not yet in the target's cache.
            hidden: the target's state before it, shape [width].
            position: tokens in the target's cache.
        """
        ...

    def close(self) -> None: ...


class NoDrafter:
    """Plain decoding."""

    def draft(self, token: int, hidden: Hidden, position: int, count: int) -> list[int]:  # noqa: ARG002
        return []

    def close(self) -> None: ...


class Mtp:
    """Gemma 4's assistant: a few layers that read the target's own KV cache.

    Each guess takes a token and a state, and gives the next token and the state to go on with. The position stays that
    of the first guess: the assistant was trained so.

    Raises:
        RuntimeFailed: it is made for another width than the target's.
    """

    def __init__(self, path: Path, target: Target, *, threads: int, gpu_layers: int | None = None) -> None:
        self.model = Model(path, gpu_layers=gpu_layers)
        if self.model.width_out != target.model.width_out:
            raise RuntimeFailed(
                f"{path} is made for a width of {self.model.width_out}, the target's is {target.model.width_out}"
            )
        self.context = Context(
            self.model,
            tokens=target.context.tokens,
            micro_batch=1,
            outputs=1,
            threads=threads,
            target=target.context,
            hidden=True,
        )
        self._batch = Batch(1, self.model.width_out)
        self._target = target

    def draft(self, token: int, hidden: Hidden, position: int, count: int) -> list[int]:
        batch, context = self._batch, self.context
        batch.fill((token,), position, all_wanted=True)
        context.use_threads(self._target.threads.count)
        tokens: list[int] = []
        while len(tokens) < count:
            batch.hidden[0] = hidden
            context.decode(batch)
            token = int(context.logits(1)[0].argmax())
            tokens.append(token)
            batch.token[0] = token
            hidden = context.hidden(0)
        return tokens

    def close(self) -> None:
        self.context.close()
        self.model.close()
