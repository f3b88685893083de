"""The round: draft, verify, accept, roll back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from advisor import gguf
from advisor.errors import UsageError
from advisor.probes.cpu import probe
from advisor.probes.host import Local
from backends.native import acceptance
from backends.native.drafters import Drafter, Mtp, NoDrafter
from backends.native.library import ContextFull
from backends.native.target import MAX_DRAFT, MICRO_BATCH, Target


class Round(NamedTuple):
    """What one step gave: the tokens of the answer, how many were drafted, and how many of those were right.

    The last token may be one that ends the answer (`Engine.end`).
    """

    tokens: tuple[int, ...]
    drafted: int
    accepted: int


def cores() -> int:
    """Physical cores that this process may use, limits of containers included: more threads slow decoding down."""
    return probe(Local())[0].cores


class Engine:
    """A target, with or without a drafter, that answers one prompt at a time.

    Raises:
        RuntimeFailed: a file is missing, broken, or does not belong to the other.
    """

    def __init__(
        self,
        model: Path,
        drafter: Path | None = None,
        *,
        context_tokens: int = 4096,
        threads: int | None = None,
        gpu_layers: int | None = None,
        micro_batch: int = MICRO_BATCH,
    ) -> None:
        gguf.pair(model, drafter)
        threads = threads or cores()
        self.target = Target(
            model,
            context_tokens=context_tokens,
            threads=threads,
            gpu_layers=gpu_layers,
            drafter=drafter is not None,
            micro_batch=micro_batch,
        )
        self.drafter: Drafter = NoDrafter()
        if drafter is not None:
            self.drafter = Mtp(drafter, self.target, threads=threads, gpu_layers=gpu_layers)
        self.has_drafter = drafter is not None

    @property
    def end(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.target.model.end

    def room(self, prompt: Sequence[int]) -> int:
        """Tokens of an answer that fit beside `prompt`."""
        return self.target.context.tokens - len(prompt)

    def warm(self, draft_tokens: int) -> None:
        """Decode a little, so that the first answer does not pay for reading weights and building graphs."""
        begin = self.target.model.tokenize("", special=True, begin=True) or [0]
        for _ in self.generate(begin, draft_tokens=draft_tokens, max_tokens=draft_tokens + 2):
            pass

    def generate(
        self,
        prompt: Sequence[int],
        *,
        draft_tokens: int = 0,
        max_tokens: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        reuse: bool = False,
    ) -> Iterator[Round]:
        """Answer `prompt` greedily, round by round, until a token of `end`, `max_tokens`, or `stopped`.

        Args:
            draft_tokens: guesses a round; 0 decodes plainly. The answer is the same.
            max_tokens: most tokens of the answer; None: whatever fits.
            stopped: asked before each round and each micro-batch of the prompt.
            reuse: do not read again what the cache holds of the prompt's beginning.

        Raises:
            ContextFull: prompt and answer do not fit; nothing was generated.
            UsageError: an empty prompt, or too many drafts.
        """
        limit = self._limit(prompt, draft_tokens, max_tokens)
        first = self.target.prefill(prompt, stopped, reuse=reuse) if limit else None
        if first is None:
            return
        token = int(first[0].argmax())
        yield Round((token,), 0, 0)
        given, row = 1, -1
        while given < limit and token not in self.end and not stopped():
            found = self._round(token, row, min(draft_tokens, limit - given - 1))
            given += len(found.tokens)
            # The state to draft from is that of the token before the last: the row of the last agreeing guess.
            token, row = found.tokens[-1], found.accepted
            yield found

    def _limit(self, prompt: Sequence[int], draft_tokens: int, max_tokens: int | None) -> int:
        if not prompt:
            raise UsageError("the prompt is empty")
        if not 0 <= draft_tokens <= MAX_DRAFT:
            raise UsageError(f"draft_tokens is {draft_tokens}, not between 0 and {MAX_DRAFT}")
        room = self.room(prompt)
        if max_tokens is not None and max_tokens > room:
            raise ContextFull(
                f"the prompt has {len(prompt):,} tokens and {max_tokens:,} are asked for; "
                f"the context holds {self.target.context.tokens:,}",
                hint="shorten the prompt, ask for fewer tokens, or for a longer context",
            )
        return max(room, 1) if max_tokens is None else max_tokens

    def _round(self, token: int, row: int, drafts: int) -> Round:
        target, position = self.target, self.target.length
        drafted: list[int] = []
        if drafts and self.has_drafter:
            drafted = self.drafter.draft(token, target.hidden(row), position, drafts)
        tokens = acceptance.greedy(drafted, target.step([token, *drafted]))
        for index, found in enumerate(tokens):
            if found in self.end:
                tokens = tokens[: index + 1]
                break
        accepted = min(len(tokens), sum(a == b for a, b in zip(tokens, drafted, strict=False)))
        target.keep(position + min(accepted, len(tokens) - 1) + 1)
        return Round(tuple(tokens), len(drafted), accepted)

    def close(self) -> None:
        self.drafter.close()
        self.target.close()
