"""Drafters: whoever guesses the next tokens. Gemma 4's own assistant, any smaller model, or the text itself.

One protocol: told of each answer's beginning, then asked for a draft each round. A drafter looks after its own state;
nobody tells it which guesses were right, it sees that from the text.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from advisor.errors import RuntimeFailed
from backends.native.acceptance import NOTHING, Draft
from backends.native.library import Batch, Context, Logits, Model
from backends.native.pace import Pace
from backends.native.sampling import Distribution, Sampler
from backends.native.target import MAX_DRAFT, MICRO_BATCH, Target


class Place(NamedTuple):
    """Where the answer is.

    Args:
        text: all tokens so far, the prompt's too; the last one is not yet in the target's cache. To be read only.
        row: of the target's last decode, the row whose state was that of the last token but one; -1: the last.
    """

    text: list[int]
    row: int = -1


class Drafter(Protocol):
    def begin(self, text: list[int]) -> None:
        """An answer begins: the prompt and its first token."""
        ...

    def draft(self, place: Place, pace: Pace, sampler: Sampler) -> Draft:
        """Guess tokens after those of `place` as long as `pace` wants more.

        Sampled guesses are drawn from the drafter's own distribution, shaped by the request like the target's: the
        more alike the two, the more is accepted.
        """
        ...

    def close(self) -> None: ...


class NoDrafter:
    """Plain decoding."""

    def begin(self, text: list[int]) -> None: ...

    def draft(self, place: Place, pace: Pace, sampler: Sampler) -> Draft:  # noqa: ARG002
        return NOTHING

    def close(self) -> None: ...


class Guesses:
    """A draft in the making: from scores to a guess, or to the end of the draft."""

    def __init__(self, pace: Pace, sampler: Sampler) -> None:
        self.pace, self.sampler = pace, sampler
        self.tokens: list[int] = []
        self.odds: list[Distribution | None] = []

    def add(self, row: Logits) -> bool:
        """The next guess by the scores `row`, shape [vocabulary]; False where the pace does not want it."""
        if self.sampler.greedy:
            token = int(row.argmax())
            # The best token's probability: one over the sum of all exponentials relative to it.
            sure = 1 / float(np.exp(row - row[token]).sum()) if self.pace.unsure else 1.0
            if not self.pace.takes(sure):
                return False
            self.tokens.append(token)
            self.odds.append(None)
            return True
        odds = self.sampler.distribution(row, self.tokens)
        # Decided before the draw, and never taken back: see `depth`.
        if not self.pace.takes(float(odds.odds.max())):
            return False
        self.tokens.append(odds.draw(self.sampler.guessing.random()))
        self.odds.append(odds)
        return True

    @property
    def draft(self) -> Draft:
        return Draft(self.tokens, self.odds)


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

    def begin(self, text: list[int]) -> None: ...

    def draft(self, place: Place, pace: Pace, sampler: Sampler) -> Draft:
        batch, context = self._batch, self.context
        hidden = self._target.hidden(place.row)
        batch.fill(place.text[-1:], len(place.text) - 1, all_wanted=True)
        context.use_threads(self._target.threads.count)
        guesses = Guesses(pace, sampler)
        while pace.goes_on():
            batch.hidden[0] = hidden
            context.decode(batch)
            if not guesses.add(context.logits(1)[0]):
                break
            batch.token[0] = guesses.tokens[-1]
            hidden = context.hidden(0)
        return guesses.draft

    def close(self) -> None:
        self.context.close()
        self.model.close()


class Small:
    """A smaller model with the same vocabulary, and with a KV cache of its own, which follows the text.

    Raises:
        RuntimeFailed: its vocabulary is another.
    """

    def __init__(self, path: Path, target: Target, *, threads: int, gpu_layers: int | None = None) -> None:
        self.model = Model(path, gpu_layers=gpu_layers)
        same_vocabulary(self.model, target.model)
        self.context = Context(
            self.model, tokens=target.context.tokens, micro_batch=MICRO_BATCH, outputs=1, threads=threads
        )
        self._batch = Batch(MICRO_BATCH)
        self._target = target
        self._read: list[int] = []
        """Tokens in its cache."""
        self._same = 0
        """So many of them are known to be the text's."""

    def begin(self, text: list[int]) -> None:
        self._same = 0
        self._follow(text)

    def draft(self, place: Place, pace: Pace, sampler: Sampler) -> Draft:
        self.context.use_threads(self._target.threads.count)
        guesses = Guesses(pace, sampler)
        begun = False
        while pace.goes_on():
            if begun:
                self._decode(guesses.tokens[-1:])
            else:
                self._follow(place.text)
                begun = True
            if not guesses.add(self.context.logits(1)[0]):
                break
        return guesses.draft

    def _follow(self, text: list[int]) -> None:
        """Have exactly `text` in the cache, its last token decoded last."""
        read, same = self._read, self._same
        most = min(len(read), len(text) - 1)
        while same < most and read[same] == text[same]:
            same += 1
        same = min(same, most)
        # The sliding layers keep no more than their window: farther back means from the beginning.
        if len(read) - same > MAX_DRAFT + 1:
            self.context.clear()
            same = 0
        elif same < len(read):
            self.context.keep(same)
        del read[same:]
        for begin in range(same, len(text), MICRO_BATCH):
            self._decode(text[begin : begin + MICRO_BATCH])
        self._same = len(read)

    def _decode(self, tokens: Sequence[int]) -> None:
        self._batch.fill(tokens, len(self._read), all_wanted=False)
        self.context.decode(self._batch)
        self._read.extend(tokens)

    def close(self) -> None:
        self.context.close()
        self.model.close()


def same_vocabulary(drafter: Model, target: Model) -> None:
    """Raises RuntimeFailed where the two read tokens differently."""
    if drafter.size != target.size:
        raise RuntimeFailed(
            f"{drafter.path} does not belong to {target.path.name}: its vocabulary has {drafter.size:,} tokens, "
            f"the model's {target.size:,}"
        )
    for token in range(0, target.size, max(1, target.size // PROBES)):
        if drafter.piece(token) != target.piece(token) or (token in drafter.end) != (token in target.end):
            raise RuntimeFailed(
                f"{drafter.path} does not belong to {target.path.name}: "
                f"token {token} is {drafter.piece(token)!r} there and {target.piece(token)!r} here",
                hint="a smaller model as drafter must have the same vocabulary",
            )


PROBES = 4096
"""Tokens whose texts are compared."""


class Lookup:
    """Guesses that the text goes on as it did after the last few tokens came before. No model, and next to no time.

    For each three tokens a table of fixed size says where they came last. An entry that another overwrote, or that is
    left from another text, shows by the tokens that stand there, so nothing is ever cleared.
    """

    LENGTH = 3
    LONGEST = 32
    """Tokens in common that are counted."""
    SLOTS = 1 << 17

    def __init__(self) -> None:
        self._ends = array("l", bytes(self.SLOTS * array("l").itemsize))
        """By the tokens' hash: how long the text was when it ended with them last."""
        self._before = 0
        """How long it was when it ended before as it ends now; 0: never."""
        self._known = 0
        """Tokens that were looked at."""
        self._text: list[int] = []

    def begin(self, text: list[int]) -> None:
        same, most = 0, min(len(text) - 1, self._known)
        while same < most and text[same] == self._text[same]:
            same += 1
        self._known, self._text = same, text
        self._read()

    def _read(self) -> None:
        """Look at what was added to the text."""
        text, ends, before = self._text, self._ends, 0
        for end in range(max(self._known + 1, self.LENGTH), len(text) + 1):
            slot = hash((text[end - 3], text[end - 2], text[end - 1])) % self.SLOTS
            before, ends[slot] = ends[slot], end
        self._known, self._before = len(text), before

    def match(self) -> tuple[int, int]:
        """Where the text went on before as it may now, and how many tokens the two have in common; (0, 0): nowhere."""
        if self._known < len(self._text):
            self._read()
        text, at = self._text, self._before
        # An entry may be of a text that has been given up.
        if not self.LENGTH <= at < len(text) or text[at - self.LENGTH : at] != text[-self.LENGTH :]:
            return 0, 0
        common, longest = self.LENGTH, min(self.LONGEST, at)
        while common < longest and text[at - 1 - common] == text[-1 - common]:
            common += 1
        return at, common

    def tokens(self, at: int, count: int) -> list[int]:
        """What came from `at` on; where that runs into the end of the text, it repeats itself."""
        found = self._text[at : at + count]
        while found and len(found) < count:
            found += found[: count - len(found)]
        return found

    def draft(self, place: Place, pace: Pace, sampler: Sampler) -> Draft:  # noqa: ARG002
        at, _ = self.match()
        count = 0
        while at and pace.goes_on() and pace.takes(1.0):
            count += 1
        return self.guessed(at, count)

    def guessed(self, at: int, count: int) -> Draft:
        """A draft of `count` tokens from `at` on. They are chosen, not drawn."""
        return Draft(self.tokens(at, count), [None] * count) if count else NOTHING

    def close(self) -> None: ...
