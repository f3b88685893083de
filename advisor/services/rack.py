"""A checkpoint on so many GPUs that share its tensors: the conversations that it holds, and what each of them gets.

Memory is reckoned as `room` does it for the launch. Speed is a roofline: weights are read once a step, the cache of
every conversation once, and every row costs arithmetic. Reading prompts is left out: with long ones and short answers
a service makes far fewer tokens. What batches reach of a card's peaks is assumed, and the ranges are as wide as that:
published figures lie within them, each predicted to within half of it (tests/head/test_serving.py).
"""

from __future__ import annotations

import bisect
from math import exp, hypot

from advisor.choice.candidates import Terms
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import Checkpoint, ModelProfile, Runtime
from advisor.machine import Gpu, Machine, Record
from advisor.memory import footprint
from advisor.memory.footprint import Shape, Weights
from advisor.memory.room import CARD_RESERVE, room_for, share_of
from advisor.prediction import concurrency, speculation
from advisor.prediction.constants import constants
from advisor.prediction.reads import kv_read_bytes
from advisor.prediction.speed import DEFAULT_DEPTH, acceptance, draft_seconds
from advisor.prediction.stages import Stage, bandwidth, cards_stage, flops
from advisor.running.order import Order
from advisor.services.service import Load, Service

USERS = (1, 4, 16, 64, 256)
BYTES_16_BITS = 2
LOST_MS = 1.0
"""Of a step, for whatever is between steps: scheduling and sampling. Assumed."""


class Reached(Record, frozen=True, kw_only=True):
    """What batches reach, assumed; the usual values between six published figures. `compute`: of the FP16 peak, for a
    few hundred rows at once; `cache`: of the bandwidth, when attention reads the caches of many; `hand_over_us`: of a
    layer among several cards, fast links to slow ones."""

    compute: float
    cache: float
    hand_over_us: float


LOW, USUAL, HIGH = (
    Reached(compute=0.2, cache=0.1, hand_over_us=100),
    Reached(compute=0.3, cache=0.5, hand_over_us=40),
    Reached(compute=0.6, cache=0.7, hand_over_us=15),
)


class Rack(Record, frozen=True, kw_only=True):
    """A checkpoint on so many cards."""

    model: ModelProfile
    found: Checkpoint
    cards: tuple[Gpu, ...]
    terms: Terms
    runtime: Runtime
    machine: Machine
    catalog: Catalog

    def service(self, *, copies: int) -> Service:
        """What it can do."""
        counts = {count for count in USERS if count < self.most} | {self.users, self.most}
        loads = tuple(map(self.load, sorted(counts)))
        pays = [load.users for load in loads if load.drafter_gain >= speculation.WORTHWHILE_GAIN]
        drafts = self.draft_tokens
        order = Order(
            model=self.model.id,
            backend=self.runtime.id,
            quant=self.found.name if self._not_the_usual(loads[-1].users) else None,
            context=self.terms.context_tokens,
            parallel=loads[-1].users,
            use_drafter=bool(drafts),
        )
        here = any(one.name == self.runtime.id and one.available for one in self.machine.backends)
        return Service(
            backend=self.runtime.id,
            backend_available=here,
            model=self.model.id,
            name=self.model.name,
            quant=self.found.name,
            repo=self.found.repo,
            drafter=self.found.drafter if drafts else "",
            draft_tokens=drafts,
            drafter_pays_up_to=max(pays, default=0),
            gpus=tuple(card.index for card in self.cards),
            copies=copies,
            context_tokens=self.terms.context_tokens,
            depth_tokens=self.depth,
            weights_bytes=self.weights_bytes,
            cache_bytes=self.cache_bytes,
            cache_bytes_per_sequence=self.per_sequence,
            sequences=self.sequences,
            users=self.users,
            loads=loads,
            basis={
                "weights_bytes": "catalogue",
                "cache_bytes": "assumed",
                "cache_bytes_per_sequence": "formula",
                "sequences": "formula",
                "loads": "assumed",
            },
            reasons=self.reasons(loads, max(pays, default=0), copies, here=here),
            command=order.typed(),
        )

    def _not_the_usual(self, users: int) -> bool:
        """Whether `advisor launch` would choose a better checkpoint that has room too."""
        better = self.model.checkpoints[: self.model.checkpoints.index(self.found)]

        def fits(one: Checkpoint) -> bool:
            context = self.terms.context_tokens
            return room_for(one, self.model, self.machine, self.runtime, context=context, sequences=users).fits

        return any(set(one.runtimes) & set(self.found.runtimes) and fits(one) for one in better)

    def reasons(self, loads: tuple[Load, ...], pays: int, copies: int, *, here: bool) -> tuple[str, ...]:
        runtime, count, last = self.runtime, len(self.cards), loads[-1]
        where = f"{count} GPUs that share its tensors" if count > 1 else "one GPU"
        told = [
            f"{runtime.name} decodes many conversations in one step, on {where}",
            f"the cache holds {self.sequences:,} of {self.terms.context_tokens:,} tokens, more of shorter ones",
            f"about {self.users} users at once get {self.terms.min_tokens_per_s:g} tokens/s each",
        ]
        if self.draft_tokens:
            until = "never pays" if not pays else "pays" if pays == last.users else f"pays up to about {pays} users"
            gains = f"{loads[0].drafter_gain:.2f}x for one, {last.drafter_gain:.2f}x for {last.users}"
            told.append(f"the drafter {until}: {gains}")
        if not here and not self.machine.simulated:
            told.append(f"it is not installed: {runtime.install_line(self.machine.os)}")
        if copies > 1:
            told.append(f"there are GPUs for {copies} such servers")
        return (*told, "reckoned from the cards' figures; what batches reach of them is assumed")

    # ---- Memory

    @property
    def weights_bytes(self) -> int:
        draft = int(self.found.drafter_bytes or 0) if self.terms.drafter else 0
        return int(self.found.bytes) + draft

    @property
    def cache_bytes(self) -> int:
        """What the cards have left for it."""
        smallest = min(share_of(card, self.runtime) * card.memory_total_bytes for card in self.cards)
        room = smallest - CARD_RESERVE
        return max(0, int(len(self.cards) * room) - self.weights_bytes)

    @property
    def per_sequence(self) -> int:
        shape = Shape(context_tokens=self.terms.context_tokens, sequences=1)
        return footprint.kv_cache_bytes(self.model.architecture, shape)

    @property
    def sequences(self) -> int:
        return self.cache_bytes // self.per_sequence

    # ---- Speed

    @property
    def most(self) -> int:
        """Users that are reckoned with at most."""
        return min(self.sequences, USERS[-1])

    @property
    def users(self) -> int:
        """As many as get the use case's speed; speed falls with every further one."""
        enough = range(1, self.most + 1)
        roof, least = self.roofline(USUAL), self.terms.min_tokens_per_s
        return bisect.bisect_left(enough, True, key=lambda count: max(self._rates(count, roof)) / count < least)

    @property
    def depth(self) -> int:
        return min(DEFAULT_DEPTH, self.terms.context_tokens)

    @property
    def draft_tokens(self) -> int:
        return self.model.drafter.draft_tokens if self.terms.drafter and self.found.drafter else 0

    def load(self, users: int) -> Load:
        """What so many users get."""
        usual, low, high = (self._rates(users, self.roofline(reached)) for reached in (USUAL, LOW, HIGH))
        slower, faster = constants().gpus["vllm"].slower, constants().gpus["vllm"].faster
        draft = constants().drafting if self.draft_tokens else None
        best = max(usual)
        return Load(
            users=users,
            tokens_per_s=usual[1],
            low=min(low[1], usual[1]) * exp(-hypot(slower, draft.slower if draft else 0)),
            high=max(high[1], usual[1]) * exp(hypot(faster, draft.faster if draft else 0)),
            each=best / users,
            plain_tokens_per_s=usual[0],
            drafter_gain=usual[1] / usual[0],
        )

    def _rates(self, users: int, roof: concurrency.Roofline) -> tuple[float, float]:
        """Tokens per second of all, plain and drafted."""
        plain = concurrency.rate(1 / roof.step(1, 1), roof.step, users)
        drafts = self.draft_tokens
        if not drafts:
            return plain, plain
        return plain, plain * concurrency.gain(self._alone(roof), roof.step, users, drafts)

    def _alone(self, roof: concurrency.Roofline) -> float:
        """The drafter's gain for one user."""
        drafter = self.model.drafter
        first = acceptance(drafter, self.terms.use_case.output_kind)
        conditional = speculation.acceptances(first, drafter.acceptance_decay, self.draft_tokens)
        one = roof.step(1, 1)
        seconds = draft_seconds(self._stage, float(self.found.drafter_bytes or 0)) / one
        return speculation.gain(conditional, lambda rows: roof.step(1, rows) / one, seconds)

    def roofline(self, reached: Reached) -> concurrency.Roofline:
        """A step on these cards, tensors divided among them."""
        architecture, count, stage = self.model.architecture, len(self.cards), self._stage
        held = checkpoint_weights(self.model, self.found)
        device = self.catalog.devices.get(self.cards[0].device or "")
        rate = bandwidth(self.cards[0], device)
        work = 2.0 * footprint.active_weights(architecture)
        if architecture.experts:
            work /= constants().prompt.experts_share
        layers = architecture.layers * (stage.layer_s + (stage.expert_layer_s if architecture.experts else 0.0))
        handed = architecture.layers * reached.hand_over_us / 1e6 if count > 1 else 0.0
        used = architecture.experts_used / architecture.experts if architecture.experts else 0.0
        return concurrency.Roofline(
            fixed=LOST_MS / 1e3 + layers + handed,
            dense=(held.layers + held.embedding) / (stage.weights_per_s * count),
            experts=held.experts * used / (stage.weights_per_s * count),
            row=work / (flops(device, rate) * reached.compute * count),
            cache=kv_read_bytes(architecture, self.depth, "f16") / (rate * reached.cache * count),
            architecture=architecture,
        )

    @property
    def _stage(self) -> Stage:
        device = self.catalog.devices.get(self.cards[0].device or "")
        return cards_stage(self.cards[:1], (device,), False, "vllm")


def checkpoint_weights(model: ModelProfile, found: Checkpoint) -> Weights:
    """A checkpoint's bytes by purpose: tables and experts have 16 bits also where the layers have four, as they are
    published; the layers are what remains."""
    architecture = model.architecture
    table = footprint.per_layer_table_weights(architecture) * BYTES_16_BITS
    embedding = architecture.vocab * architecture.hidden * BYTES_16_BITS
    experts = footprint.expert_weights(architecture) * BYTES_16_BITS
    rest = int(found.bytes) - table - embedding - experts
    return Weights(per_layer_table=table, embedding=embedding, experts=experts, layers=max(0, rest))
