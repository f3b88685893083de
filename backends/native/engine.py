"""The round: draft, verify, accept, roll back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from advisor.errors import UsageError
from advisor.files import gguf
from advisor.hardware.probes.cpu import probe
from advisor.hardware.probes.host import Local
from backends.native.acceptance import NOTHING, Draft, verified
from backends.native.depth import AUTO, Depth
from backends.native.drafters import Drafter, Lookup, Mtp, NoDrafter, Place, Small
from backends.native.library import ContextFull
from backends.native.pace import Adaptive, Fixed
from backends.native.sampling import GREEDY, Sampler, Sampling
from backends.native.target import MAX_DRAFT, MICRO_BATCH, Target

MEASURED = (1, 2, 4, 3, 6, 8, 5, 7, 12, 16)
"""Row counts whose cost is measured beforehand, the most useful first."""
REPEATS = 3
GUESSES = 2
"""Drafted before each decode that is measured."""
MEASURING = 0.5
"""Seconds after which no further count is measured beforehand."""


class Spent(NamedTuple):
    """Seconds of a round. `sample`: choosing tokens; `rest`: all else in Python."""

    draft: float = 0.0
    verify: float = 0.0
    sample: float = 0.0
    rest: float = 0.0


class Round(NamedTuple):
    """What one step gave: the tokens of the answer, how many were drafted, and how many of those were right.

    The last token may be one that ends the answer (`Engine.end`).
    """

    tokens: tuple[int, ...]
    drafted: int
    accepted: int
    spent: Spent = Spent()


class Plan(NamedTuple):
    """What one round verifies: the draft, in how many rows, and who made it."""

    draft: Draft = NOTHING
    rows: int = 1
    pace: Adaptive | None = None
    match: int = 0
    """Of a repeated passage: tokens in common with the end of the text."""

    @property
    def verified(self) -> list[int]:
        """The guesses that are decoded; a probe is only compared."""
        return [] if self.pace is not None and self.pace.probing else self.draft.tokens


PLAIN = Plan()


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
        _, found = gguf.pair(model, drafter)
        threads = threads or cores()
        self.target = Target(
            model,
            context_tokens=context_tokens,
            threads=threads,
            gpu_layers=gpu_layers,
            drafter=found is not None and found.architecture == gguf.DRAFTER,
            micro_batch=micro_batch,
        )
        self.drafter: Drafter = NoDrafter()
        self.backup: Lookup | None = None
        """Guesses from the text itself, where draft lengths adapt."""
        if found is not None:
            kind = Mtp if found.architecture == gguf.DRAFTER else Small
            self.drafter = kind(found.path, self.target, threads=threads, gpu_layers=gpu_layers)
            self.backup = Lookup()
        elif drafter == gguf.LOOKUP:
            self.drafter = self.backup = Lookup()
        self.has_drafter, self.neural = drafter is not None, found is not None
        self.depth = Depth(MAX_DRAFT)

    @property
    def end(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.target.model.end

    def room(self, prompt: Sequence[int]) -> int:
        """Tokens of an answer that fit beside `prompt`."""
        return self.target.context.tokens - len(prompt)

    def warm(self, draft_tokens: int) -> None:
        """Decode a little, so that the first answer does not pay for reading weights and building graphs."""
        for _ in self.generate(self._beginning, draft_tokens=draft_tokens, max_tokens=max(1, draft_tokens) + 2):
            pass

    @property
    def _beginning(self) -> list[int]:
        """The shortest text."""
        return self.target.model.tokenize("", special=True, begin=True) or [0]

    def measure(self) -> None:
        """Learn what decoding so many rows costs, once; within `MEASURING`, the rest is learned while running."""
        costs, target = self.depth.costs, self.target
        if any(costs.seen):
            return
        target.prefill(self._beginning)
        until = time.perf_counter() + MEASURING
        for number in range(REPEATS + 1):
            # All counts in turn, so that a pause of the machine distorts none of them for good.
            for rows in MEASURED:
                if rows > target.room:
                    continue
                first = self._measured(rows)
                # The first of each count builds what the others use again: where it is all there is, it will do.
                again = self._measured(rows) if number else first
                costs.note(rows, again)
                if number:
                    costs.note_change(first - again)
                if time.perf_counter() > until:
                    return

    def _measured(self, rows: int) -> float:
        """Seconds of decoding `rows` rows and dropping them again; drafted before where there is more than one."""
        position = self.target.length
        if rows > 1:
            # As in a round: what the drafter reads displaces the target's weights from the processor's caches.
            began = time.perf_counter()
            drafted = self.drafter.draft(Place([*self.target.tokens, 0]), Fixed(GUESSES), Sampler(GREEDY, ()))
            if drafted.tokens:
                self.depth.stepped(GUESSES, time.perf_counter() - began)
        began = time.perf_counter()
        self.target.step([0], rows)
        self.target.keep(position)
        return time.perf_counter() - began

    def generate(
        self,
        prompt: Sequence[int],
        *,
        draft_tokens: int = 0,
        max_tokens: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        reuse: bool = False,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Round]:
        """Answer `prompt`, round by round, until a token of `end`, `max_tokens`, or `stopped`.

        Args:
            draft_tokens: guesses a round; 0 decodes plainly; AUTO: as many as pay. A greedy answer is the same whatever
                it is, a sampled one has the same distribution.
            max_tokens: most tokens of the answer; None: whatever fits.
            stopped: asked before each round and each micro-batch of the prompt.
            reuse: do not read again what the cache holds of the prompt's beginning.
            sampling: how tokens are chosen; the default is greedy.

        Raises:
            ContextFull: prompt and answer do not fit; nothing was generated.
            UsageError: an empty prompt, too many drafts, or impossible sampling.
        """
        limit = self._limit(prompt, draft_tokens, max_tokens)
        sampling.check(self.target.model.size)
        if draft_tokens == AUTO:
            self.measure()
        first = self.target.prefill(prompt, stopped, reuse=reuse) if limit else None
        if first is None:
            return
        sampler = Sampler(sampling, prompt)
        token = sampler.first(first[0])
        sampler.note((token,))
        text = [*prompt, token]
        if draft_tokens:
            self.drafter.begin(text)
        if draft_tokens == AUTO and self.backup is not None:
            self.backup.begin(text)
        self.depth.begin()
        yield Round((token,), 0, 0)
        given, row = 1, -1
        while given < limit and token not in self.end and not stopped():
            found = self._round(Place(text, row), sampler, draft_tokens, limit - given - 1)
            given += len(found.tokens)
            text.extend(found.tokens)
            sampler.note(found.tokens)
            # The state to draft from is that of the token before the last: the row of the last agreeing guess.
            token, row = found.tokens[-1], found.accepted
            yield found

    def _limit(self, prompt: Sequence[int], draft_tokens: int, max_tokens: int | None) -> int:
        if not prompt:
            raise UsageError("the prompt is empty")
        if draft_tokens != AUTO and not 0 <= draft_tokens <= MAX_DRAFT:
            raise UsageError(f"draft_tokens is {draft_tokens}, not between 0 and {MAX_DRAFT}")
        room = self.room(prompt)
        if max_tokens is not None and max_tokens > room:
            raise ContextFull(
                f"the prompt has {len(prompt):,} tokens and {max_tokens:,} are asked for; "
                f"the context holds {self.target.context.tokens:,}",
                hint="shorten the prompt, ask for fewer tokens, or for a longer context",
            )
        return max(room, 1) if max_tokens is None else max_tokens

    def _round(self, place: Place, sampler: Sampler, wanted: int, most: int) -> Round:
        """Draft, verify, accept, roll back. `wanted`: guesses, or AUTO; `most`: that the answer has room for."""
        target, position = self.target, self.target.length
        began = time.perf_counter()
        plan = self._adaptive(place, sampler, most) if wanted == AUTO else self._fixed(place, sampler, wanted, most)
        drafted = time.perf_counter()
        guesses = plan.verified
        logits = target.step([place.text[-1], *guesses], plan.rows)
        decoded = time.perf_counter()
        tokens = verified(plan.draft, logits, sampler)
        sampled = time.perf_counter()
        if not self.end.isdisjoint(tokens):
            tokens = tokens[: next(index for index, found in enumerate(tokens) if found in self.end) + 1]
        # All but the last agree with the draft; the last may.
        last = len(tokens) - 1
        right = last + (tokens[last : last + 1] == plan.draft.tokens[last : last + 1])
        accepted = min(right, len(guesses))
        target.keep(position + min(accepted, last) + 1)
        if wanted == AUTO:
            self._learn(plan, tokens, right, drafted - began, time.perf_counter() - drafted)
        ended = time.perf_counter()
        spent = Spent(drafted - began, decoded - drafted, sampled - decoded, ended - sampled)
        return Round(tuple(tokens), len(guesses), accepted, spent)

    def _fixed(self, place: Place, sampler: Sampler, wanted: int, most: int) -> Plan:
        count = min(wanted, most)
        return Plan(self.drafter.draft(place, Fixed(count), sampler)) if count > 0 and self.has_drafter else PLAIN

    def _adaptive(self, place: Place, sampler: Sampler, most: int) -> Plan:
        """The draft that promises most: of the drafter, of a passage that repeats itself, or none."""
        depth = self.depth
        most = min(most, MAX_DRAFT)
        at, match = self.backup.match() if self.backup is not None else (0, 0)
        drafts = self.neural and most > 0 and not depth.rests()
        if not drafts and not (at and most > 0):
            return PLAIN
        depth.look()
        count, gain = depth.repeated(match, most) if at else (0, 0.0)
        pace = Adaptive(depth, most) if drafts else None
        if pace is not None and (not count or depth.ahead(0, most, 1.0)[1] >= gain):
            draft, match = self.drafter.draft(place, pace, sampler), 0
        elif count and self.backup is not None:
            draft, pace = self.backup.guessed(at, count), None
        else:
            return PLAIN
        if not draft.tokens or (pace is not None and pace.probing):
            return Plan(draft, 1, pace)
        rows = depth.costs.padded(len(draft.tokens) + 1, self.target.room)
        return Plan(draft, rows, pace, match)

    def _learn(self, plan: Plan, tokens: Sequence[int], right: int, drafting: float, seconds: float) -> None:
        depth, drafted = self.depth, len(plan.draft.tokens)
        depth.record(plan.rows, seconds, len(tokens))
        if plan is PLAIN:
            return
        # An answer that ends inside a draft says nothing of the guesses after its end.
        ended = tokens[-1] in self.end
        if plan.pace is not None:
            depth.judge(plan.pace, plan.rows, right, drafting, ended=ended)
        elif plan.match:
            depth.judge_repeated(plan.match, min(drafted, len(tokens)) if ended else drafted, right)

    def close(self) -> None:
        self.drafter.close()
        self.target.close()
