"""A service for many users: which checkpoint on which GPUs with vLLM, how many conversations it holds, and what each of
them gets. Where there is no such GPU, the pick's own backend serves as many as it can.

Memory is reckoned as `room` does it for the launch. Speed is a roofline: weights are read once a step, the cache
of every conversation once, and every row costs arithmetic. What batches reach of a card's peaks is assumed, and the
ranges are as wide as that: public figures of Gemma 4 31B lie within them (tests/head/test_serving.py).
"""

from __future__ import annotations

import bisect
from math import exp, hypot
from typing import Literal

from advisor import concurrency, footprint, speculation, speed
from advisor.candidates import Candidate, Terms, quality_parts
from advisor.catalog import Catalog
from advisor.footprint import Shape, Weights
from advisor.machine import Basis, Gpu, Machine, Record
from advisor.profile import Checkpoint, ModelProfile, Runtime
from advisor.room import CARD_RESERVE, CARD_SHARE, PARALLEL, cards_of, room_for
from advisor.speed import DEFAULT_DEPTH

BACKENDS = ("vllm", "sglang")
"""The first, unless only the second is installed."""
USERS = (1, 4, 16, 64, 256)
BYTES_16_BITS = 2
UNSUITED = frozenset({"old", "jetson", "amd-apu", "other", "intel"})
"""Classes of GPU that vLLM and SGLang are not made for."""
LOST_MS = 1.0
"""Of a step, for whatever is between steps: scheduling and sampling. Assumed."""


class Reached(Record, frozen=True, kw_only=True):
    """What batches reach, assumed. `compute`: of the FP16 peak; `cache`: of the bandwidth, when attention reads the
    caches of many; `hand_over_us`: of a layer among several cards, fast links to slow ones."""

    compute: float
    cache: float
    hand_over_us: float


LOW, USUAL, HIGH = (
    Reached(compute=0.2, cache=0.1, hand_over_us=100),
    Reached(compute=0.4, cache=0.35, hand_over_us=40),
    Reached(compute=0.6, cache=0.7, hand_over_us=15),
)


class Load(Record, frozen=True, kw_only=True):
    """So many users at once. Tokens per second of all together, with the drafter where there is one; `each`: of one of
    them; `plain`: of all, without. `low`, `high`: of `tokens_per_s`. `drafter_gain` below 1: better without."""

    users: int
    tokens_per_s: float
    low: float
    high: float
    each: float
    plain_tokens_per_s: float
    drafter_gain: float


class Service(Record, frozen=True, kw_only=True):
    """What to serve many users with. `backend_available`: whether it is installed. `quant`: the checkpoint, or the
    pick's file. `gpus`: indexes of those that one server uses; `copies`: such servers that this machine has GPUs for.
    `sequences`: conversations that the cache holds, each with the whole context; `users`: of one server, as many as get
    the use case's speed. `drafter_pays_up_to`: users, 0 where it never does."""

    backend: str
    backend_available: bool
    model: str
    name: str
    quant: str
    repo: str
    drafter: str
    draft_tokens: int
    drafter_pays_up_to: int
    gpus: tuple[int, ...]
    copies: int
    context_tokens: int
    depth_tokens: int
    weights_bytes: int
    cache_bytes: int
    cache_bytes_per_sequence: int
    sequences: int
    users: int
    loads: tuple[Load, ...]
    basis: dict[str, Basis]
    reasons: tuple[str, ...]
    command: str


def propose(terms: Terms, pick: Candidate, machine: Machine, catalog: Catalog) -> Service | None:
    """What to serve a use case of several users with; None where one person works alone."""
    if terms.use_case.concurrent_users < 2:  # noqa: PLR2004 - several
        return None
    if terms.backend_asked is not None:
        return own_backend(pick, terms, f"{terms.backend_asked} was asked for")
    runtime = catalog.runtimes[chosen_backend(machine)]
    if reason := unsuited(machine, runtime):
        return own_backend(pick, terms, reason)
    found = [
        one
        for model in catalog.models.values()
        if terms.model in (None, model.id) and (one := best_of(model, terms, machine, catalog, runtime))
    ]
    least = f"{terms.use_case.concurrent_users} users at {terms.min_tokens_per_s:g} tokens/s"
    if not found:
        return own_backend(pick, terms, f"no checkpoint for {runtime.name} that fits serves {least} here")

    def quality(model: str) -> float:
        return quality_parts(catalog.models[model], terms.use_case, catalog)

    best = max(found, key=lambda one: quality(one.model))
    room = f"{best.name} ({best.quant}) only, for {best.users} users at once"
    own = own_backend(pick, terms, f"{runtime.name} has room here for {room}")
    return own if quality(own.model) > quality(best.model) and own.users >= terms.use_case.concurrent_users else best


def chosen_backend(machine: Machine) -> Literal["vllm", "sglang"]:
    there = {one.name for one in machine.backends if one.available}
    return "sglang" if "sglang" in there and "vllm" not in there else "vllm"


def unsuited(machine: Machine, runtime: Runtime) -> str:
    """Why this machine is none for such a runtime; empty where it is."""
    cards = cards_of(machine)
    if machine.os not in runtime.systems:
        return f"{runtime.name} does not run on {machine.os}"
    if not cards:
        return f"{runtime.name} needs a GPU, and there is none"
    kind = speed.gpu_kind(cards[0], machine)
    if kind in UNSUITED or cards[0].integrated:
        return f"{runtime.name} is not made for {cards[0].name}"
    return ""


# ---- vLLM and SGLang


def best_of(model: ModelProfile, terms: Terms, machine: Machine, catalog: Catalog, runtime: Runtime) -> Service | None:
    """The model's best checkpoint on the fewest cards that serve as many users as fast as the use case wants."""
    if any(kind not in model.modalities for kind in terms.use_case.modalities):
        return None
    if terms.context_tokens > model.context_tokens:
        return None
    cards = cards_of(machine)
    there = [count for count in PARALLEL if count <= len(cards)]
    least = runtime.cards.get(model.id, 1) if terms.drafter else 1
    counts = [count for count in there if count >= least] or there[-1:]
    for found in (one for one in model.checkpoints if runtime.id in one.runtimes):
        sites = [
            Site(model=model, found=found, cards=cards[:count], terms=terms, machine=machine, catalog=catalog)
            for count in counts
        ]
        able = [one for one in sites if one.users >= terms.use_case.concurrent_users]
        if able:
            # Weights are held once by each server, so that fewer servers hold more conversations, and several lose less
            # time to handing over.
            most = max(able, key=lambda one: one.users * (len(cards) // len(one.cards)))
            return most.service(runtime, copies=len(cards) // len(most.cards))
    return None


class Site(Record, frozen=True, kw_only=True):
    """A checkpoint on so many cards."""

    model: ModelProfile
    found: Checkpoint
    cards: tuple[Gpu, ...]
    terms: Terms
    machine: Machine
    catalog: Catalog

    def service(self, runtime: Runtime, *, copies: int) -> Service:
        """What it can do."""
        counts = {count for count in USERS if count < self.most} | {self.users, self.most}
        loads = tuple(map(self.load, sorted(counts)))
        pays = [load.users for load in loads if load.drafter_gain >= speculation.WORTHWHILE_GAIN]
        drafts = self.draft_tokens
        words = ["advisor", "launch", self.model.id, "--backend", runtime.id]
        words += ["--quant", self.found.name] if self._not_the_usual(loads[-1].users) else []
        words += ["--context", str(self.terms.context_tokens), "--parallel", str(loads[-1].users)]
        words += [] if drafts else ["--no-drafter"]
        return Service(
            backend=runtime.id,
            backend_available=any(one.name == runtime.id and one.available for one in self.machine.backends),
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
            reasons=self.reasons(runtime, loads, max(pays, default=0), copies),
            command=" ".join(words),
        )

    def _not_the_usual(self, users: int) -> bool:
        """Whether `advisor launch` would choose a better checkpoint that has room too."""
        better = self.model.checkpoints[: self.model.checkpoints.index(self.found)]

        def fits(one: Checkpoint) -> bool:
            return room_for(one, self.model, self.machine, context=self.terms.context_tokens, sequences=users).fits

        return any(set(one.runtimes) & set(self.found.runtimes) and fits(one) for one in better)

    def reasons(self, runtime: Runtime, loads: tuple[Load, ...], pays: int, copies: int) -> tuple[str, ...]:
        count, last = len(self.cards), loads[-1]
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
        here = any(one.name == runtime.id and one.available for one in self.machine.backends)
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
        smallest = min(card.memory_total_bytes for card in self.cards)
        room = CARD_SHARE * smallest - CARD_RESERVE
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
        return bisect.bisect_left(enough, True, key=lambda count: self.load(count).each < self.terms.min_tokens_per_s)

    @property
    def depth(self) -> int:
        return min(DEFAULT_DEPTH, self.terms.context_tokens)

    @property
    def draft_tokens(self) -> int:
        return self.model.drafter.draft_tokens if self.terms.drafter and self.found.drafter else 0

    def load(self, users: int) -> Load:
        """What so many users get."""
        usual, low, high = (self._rates(users, reached) for reached in (USUAL, LOW, HIGH))
        slower, faster = speed.constants().gpus["vllm"].slower, speed.constants().gpus["vllm"].faster
        draft = speed.constants().drafting if self.draft_tokens else None
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

    def _rates(self, users: int, reached: Reached) -> tuple[float, float]:
        """Tokens per second of all, plain and drafted."""
        roof = self.roofline(reached)
        plain = concurrency.rate(1 / roof.step(1, 1), roof.step, users)
        drafts = self.draft_tokens
        if not drafts:
            return plain, plain
        return plain, plain * concurrency.gain(self._alone(roof), roof.step, users, drafts)

    def _alone(self, roof: concurrency.Roofline) -> float:
        """The drafter's gain for one user."""
        drafter = self.model.drafter
        first = speed.acceptance(drafter, self.terms.use_case.output_kind)
        conditional = speculation.acceptances(first, drafter.acceptance_decay, self.draft_tokens)
        one = roof.step(1, 1)
        seconds = speed.draft_seconds(self._stage, float(self.found.drafter_bytes or 0)) / one
        return speculation.gain(conditional, lambda rows: roof.step(1, rows) / one, seconds)

    def roofline(self, reached: Reached) -> concurrency.Roofline:
        """A step on these cards, tensors divided among them."""
        architecture, count, stage = self.model.architecture, len(self.cards), self._stage
        held = checkpoint_weights(self.model, self.found)
        device = self.catalog.devices.get(self.cards[0].device or "")
        rate = speed.bandwidth(self.cards[0], device)
        work = 2.0 * footprint.active_weights(architecture)
        if architecture.experts:
            work /= speed.constants().prompt.experts_share
        layers = architecture.layers * (stage.layer_s + (stage.expert_layer_s if architecture.experts else 0.0))
        handed = architecture.layers * reached.hand_over_us / 1e6 if count > 1 else 0.0
        used = architecture.experts_used / architecture.experts if architecture.experts else 0.0
        return concurrency.Roofline(
            fixed=LOST_MS / 1e3 + layers + handed,
            dense=(held.layers + held.embedding) / (stage.weights_per_s * count),
            experts=held.experts * used / (stage.weights_per_s * count),
            row=work / (speed.flops(device, rate) * reached.compute * count),
            cache=speed.kv_read_bytes(architecture, self.depth, "f16") / (rate * reached.cache * count),
            architecture=architecture,
        )

    @property
    def _stage(self) -> speed.Stage:
        device = self.catalog.devices.get(self.cards[0].device or "")
        return speed.cards_stage(self.cards[:1], (device,), False, "vllm")


def checkpoint_weights(model: ModelProfile, found: Checkpoint) -> Weights:
    """A checkpoint's bytes by purpose: tables and experts have 16 bits also where the layers have four, as they are
    published; the layers are what remains."""
    architecture = model.architecture
    table = footprint.per_layer_table_weights(architecture) * BYTES_16_BITS
    embedding = architecture.vocab * architecture.hidden * BYTES_16_BITS
    experts = footprint.expert_weights(architecture) * BYTES_16_BITS
    rest = int(found.bytes) - table - embedding - experts
    return Weights(per_layer_table=table, embedding=embedding, experts=experts, layers=max(0, rest))


# ---- Where there is no GPU for them


def own_backend(pick: Candidate, terms: Terms, reason: str) -> Service:
    """The pick with the conversations that it was placed for."""
    users = terms.use_case.concurrent_users
    context = terms.context_tokens // users  # which is what they share
    name = terms.backend.name
    batches = name in concurrency.BATCHING
    step = concurrency.assumed(on_gpu=pick.placement.mode == "gpu")
    drafts = pick.drafter.draft_tokens if pick.drafter.enabled else 0

    def load(count: int) -> Load:
        plain = concurrency.rate(pick.speed.plain, step, count) if batches else pick.speed.plain
        gain = pick.speed.drafter_gain if drafts else 1.0
        if batches and drafts:
            gain = concurrency.gain(gain, step, count, drafts)
        rate, half = plain * gain, 0.5 if count > 1 else 1.0
        return Load(
            users=count,
            tokens_per_s=rate,
            low=half * rate * pick.speed.low / pick.speed.decode,
            high=rate * pick.speed.high / pick.speed.decode / half,
            each=rate / count,
            plain_tokens_per_s=plain,
            drafter_gain=gain,
        )

    loads = tuple(map(load, (1, users)))
    served = users if loads[-1].each >= terms.min_tokens_per_s else int(loads[0].each >= terms.min_tokens_per_s)
    pays = [one.users for one in loads if one.drafter_gain >= speculation.WORTHWHILE_GAIN]
    how = "decodes {} together" if batches else "answers {} one after the other"
    return Service(
        backend=name,
        backend_available=terms.backend.available,
        model=pick.model.id,
        name=pick.model.name,
        quant=pick.quant.name,
        repo=pick.quant.repo,
        drafter=pick.drafter.file.repo if pick.drafter.enabled and pick.drafter.file else "",
        draft_tokens=drafts,
        drafter_pays_up_to=max(pays, default=0),
        gpus=pick.gpus,
        copies=1,
        context_tokens=context,
        depth_tokens=pick.speed.depth_tokens,
        weights_bytes=pick.load.weights.file,
        cache_bytes=pick.load.kv_cache,
        cache_bytes_per_sequence=pick.load.kv_cache // users,
        sequences=users,
        users=served,
        loads=loads,
        basis={
            "weights_bytes": "file",
            "cache_bytes": "formula",
            "cache_bytes_per_sequence": "formula",
            "sequences": "catalogue",
            "loads": "assumed",
        },
        reasons=(reason, f"{name} {how.format(f'{users} conversations of {context:,} tokens')}"),
        command=f"advisor launch {pick.model.id} --backend {name} --quant {pick.quant.name} "
        f"--context {context} --parallel {users}" + ("" if drafts else " --no-drafter"),
    )
