"""What Ollama's children do: one per target whatever its drafter, with the lines that they write into the server's log.

Texts that were recorded are replayed; any other prompt gets words of its own. Durations are reckoned, not waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.fakes.ollama_library import Library
from tests.fakes.ollama_shelf import Manifest, Refused, facts, full
from tests.fakes.ollama_words import own, recorded, way

CTX_OTHER = (
    "llama_init_from_model: failed to initialize the context: Gemma4Assistant requires ctx_other to be set "
    "(this warning is normal during memory fitting)"
)
MISMATCH = "GGML_ASSERT(ggml_can_mul_mat(a, b)) failed"
NO_LAYERS = "exit status 1: llama_init_from_model: context type MTP requested but model doesn't contain MTP layers"
TERMINATED = "llama-server process has terminated: "
LOAD_NS = 255_000_000
WARM_NS = 1_200_000
PLAIN_NS, DRAFTED_NS = 600_000, 375_000
"""For a token."""
MEAN, WIDEST = 2.714, (0.643, 0.571, 0.5)
MIB = 1 << 20
PLAIN_BUFFERS = (("load_tensors", "model", 4.95), ("llama_context", "output", 0.01), ("llama_kv_cache", "KV", 2.0),
                 ("llama_kv_cache", "KV", 0.38), ("sched_reserve", "compute", 12.33))  # fmt: skip
DRAFT_BUFFERS = (("load_tensors", "model", 1.08), ("llama_context", "output", 0.01), ("sched_reserve", "compute", 7.38))
WIDTHS = {"load_tensors": 12}
FLOATS, INTEGERS = ("temperature", "top_p", "min_p"), ("draft_num_predict", "num_predict", "seed", "top_k", "num_ctx",
                                                 "num_gpu", "num_thread")  # fmt: skip


class Placed(NamedTuple):
    """Options that a child is started with. A wish for no certain number of layers (-1) is met by any."""

    ahead: int
    context: int
    gpu: int
    threads: int

    def meets(self, wish: Placed) -> bool:
        return self == (wish if wish.gpu >= 0 else wish._replace(gpu=self.gpu))


@dataclass
class Child:
    """A llama-server. `name`, `digest`: of the model that it was started for, which `/api/ps` goes on to list."""

    name: str
    digest: str
    details: dict[str, Any]
    options: Placed
    drafter: str | None
    good: bool
    context: int
    expires: float
    alive: bool = True
    task: int = 0
    totals: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    @property
    def size(self) -> int:
        """As `/api/ps` has it: one value is kept per kind, so a drafter's overwrites its target's."""
        kept: dict[str, int] = {}
        for _, kind, size in (*PLAIN_BUFFERS, *(DRAFT_BUFFERS if self.drafter else ())):
            kept[kind] = int(size * MIB)
        return sum(kept.values())


@dataclass
class Words:
    """An answer. `reason`: `stop` or `length`; empty where it is given up. `logprobs`: by number of alternatives."""

    tokens: list[str]
    prompt: int
    reason: str
    logprobs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def until(self, stop: str | list[str] | None) -> Words:
        """The answer before the first of some stop strings."""
        text = "".join(self.tokens)
        found = [text.find(mark) for mark in ([stop] if isinstance(stop, str) else stop or []) if mark in text]
        if not found:
            return self
        kept: list[str] = []
        for token in self.tokens:
            kept.append(token[: max(0, min(found) - len("".join(kept)))])
        return Words([token for token in kept if token], self.prompt, "stop")


@dataclass
class Children:
    """All children of one server. `load_s`: how long one takes to come up. `dies_at`: tokens after which the next one
    that answers dies; `dies_loading`: the next one that loads does. `short`: memory does not suffice for a drafter.
    `silent`: drafters are loaded and never used."""

    library: Library
    log: list[str] = field(default_factory=list)
    running: dict[str, Child] = field(default_factory=dict)
    load_s: float = 0.0
    dies_at: int | None = None
    dies_loading: bool = False
    short: bool = False
    silent: bool = False
    thinks: bool = False
    started: int = 0

    # ---- Loading

    def child(
        self, name: str, options: dict[str, Any], keep_alive: float, still_there: Callable[[], None] = lambda: None
    ) -> tuple[Child, int]:
        """The child that answers for a model, and the nanoseconds that loading took: one that runs on the same target
        with the same options, else a new one. Loading ends with what `still_there` raises: the client has gone."""
        manifest = self.library.manifest(name)
        parameters = self.library.parameters(manifest) | options
        check_types(parameters)
        drafts = [layer.digest for layer in manifest.of("draft")]
        ahead = int(parameters.get("draft_num_predict", 4 if drafts else 0))
        wanted = Placed(
            max(ahead, 0),
            *(int(parameters.get(*each)) for each in (("num_ctx", 4096), ("num_gpu", -1), ("num_thread", 0))),
        )
        child = self.running.get(manifest.target)
        if child is not None and child.alive and child.options.meets(wanted):
            child.expires = keep_alive
            return child, WARM_NS
        drafter = drafts[-1] if drafts and ahead > 0 else None
        child = self._started(name, manifest, wanted, drafter, keep_alive, still_there=still_there)
        self.running[manifest.target] = child
        return child, LOAD_NS

    def _started(
        self,
        name: str,
        manifest: Manifest,
        options: Placed,
        drafter: str | None,
        keep_alive: float,
        *,
        still_there: Callable[[], None],
    ) -> Child:
        self.running.pop(manifest.target, None)
        self.started += 1
        self._log_start(manifest.target, options, drafter)
        if self.dies_loading:
            self.dies_loading = False
            raise Refused(f"{TERMINATED}{CTX_OTHER}: {CTX_OTHER}", 500)
        until = time.monotonic() + self.load_s
        while time.monotonic() < until:
            still_there()
            time.sleep(0.01)
        told = facts(self.library.blobs[manifest.target])
        self._check_load(told, drafter)
        self._log_buffers(drafter)
        return Child(
            name=full(name), digest=manifest.digest, details=self.library.details(manifest, parent=False),
            options=options, drafter=drafter, good=bool(drafter) and self._trained(str(drafter)),
            context=options.context, expires=keep_alive,
        )  # fmt: skip

    def _check_load(self, told: dict[str, Any], drafter: str | None) -> None:
        if told["general.architecture"] != "gemma4":
            raise Refused(f"{TERMINATED}exit status 1: {CTX_OTHER}\n{CTX_OTHER}", 500)
        if self.short:
            text = "model requires more system memory (17.3 GiB) than is available (11.2 GiB)"
            raise Refused(text, 500)
        if drafter is None:
            return
        draft = facts(self.library.blobs[drafter])
        architecture = draft["general.architecture"]
        if architecture != "gemma4-assistant":
            raise Refused(TERMINATED + NO_LAYERS, 500)
        if draft[f"{architecture}.embedding_length_out"] != told["gemma4.embedding_length"]:
            raise Refused(f"{TERMINATED}{CTX_OTHER}\n{MISMATCH}: {CTX_OTHER}\n{MISMATCH}", 500)

    def _trained(self, drafter: str) -> bool:
        return facts(self.library.blobs[drafter]).get("general.name") != "random"

    def unload(self, name: str) -> None:
        """End whatever runs on the model's target."""
        self.running.pop(self.library.manifest(name).target, None)

    def listed(self) -> list[Child]:
        now = time.time()
        self.running = {target: child for target, child in self.running.items() if child.expires > now}
        return list(self.running.values())

    # ---- Answering

    def words(self, kind: str, prompt: str, options: dict[str, Any], body: dict[str, Any]) -> Words:
        """The whole answer, as long as it may become."""
        most = int(options.get("num_predict", -1))
        found, count, logprobs, natural = recorded(kind, prompt, way(options, body))
        tokens = [piece or "" for piece in found or []]
        if found is None:
            tokens, count = own(prompt), len(prompt.split()) + 9
            natural = "" if len(set(tokens)) == 1 else "stop"
        limit = len(tokens) if most < 0 else most
        whole = tokens * (limit // max(len(tokens), 1) + 1) if natural == "length" else tokens
        said = whole[:limit]
        ended = natural if natural == "" and len(said) == len(tokens) else "length" if len(said) == limit else "stop"
        return Words(said, count, ended, logprobs)

    def account(self, child: Child, words: Words) -> int:
        """Write what a request came to into the log; returns nanoseconds."""
        count = len(words.tokens)
        drafts = child.drafter is not None and not self.silent
        spent = count * (DRAFTED_NS if drafts and child.good else PLAIN_NS)
        child.task += 1
        slot = f"slot print_timing: id  0 | task {child.task} |"
        self.log += [
            f"{slot} prompt eval time = {1.97:10.2f} ms / {5:5d} tokens (    0.39 ms per token)",
            f"{slot}        eval time = {spent / 1e6:10.2f} ms / {count:5d} tokens (    0.69 ms per token)",
            f"{slot}       total time = {spent / 1e6 + 2:10.2f} ms / {count + 5:5d} tokens",
        ]
        if drafts:
            self._log_drafts(child, slot, count)
        return spent

    def _log_drafts(self, child: Child, slot: str, count: int) -> None:
        ahead = child.options.ahead
        rounds = max(int((count - 1) / MEAN), 1) if child.good else max(count - 3, 1)
        accepted = round(rounds * (MEAN - 1)) if child.good else 0
        drafted = rounds * ahead
        accepted = min(accepted, drafted)
        shares = ", ".join(f"{share if child.good else 0:.3f}" for share in (WIDEST * 5)[:ahead])
        for place, more in enumerate((rounds, rounds, drafted, accepted)):
            child.totals[place] += more
        told = f"{accepted / drafted:.5f} ({accepted:5d} accepted / {drafted:5d} generated)"
        sums = f"#gen tokens = {child.totals[2]:6d}, #acc tokens = {child.totals[3]:5d}, #acc rate/pos = ({shares})"
        self.log += [
            f"{slot} draft acceptance = {told}, mean len = {1 + accepted / rounds:5.2f}",
            f"{slot}      acc per pos = ({shares})",
            f"spec common_specu: statistics        draft-mtp: {sums}",
        ]

    # ---- The log

    def _log_start(self, target: str, options: Placed, drafter: str | None) -> None:
        def blob(digest: str) -> str:
            return f"<models>/blobs/{digest.replace(':', '-')}"

        spec = (
            f"--spec-type draft-mtp --spec-draft-n-max {options.ahead} --spec-draft-backend-sampling "
            f"--spec-draft-model {blob(drafter)} "
            if drafter
            else ""
        )
        placed = (f"-ngl {options.gpu} " if options.gpu >= 0 else "") + (
            f"-t {options.threads} " if options.threads > 0 else ""
        )
        command = (
            f"<lib>/llama-server --model {blob(target)} --port {34000 + self.started} --host 127.0.0.1 --no-webui "
            f"--offline -c {options.context} -np 1 --log-verbosity 4 --no-jinja --chat-template chatml {spec}"
            f"--load-mode none --flash-attn auto -b 512 -ub 512 {placed}--context-shift --keep 4"
        )
        self.log.append(
            f'time=2026-11-23T13:39:38.346Z level=INFO source=llama_server.go:433 msg="starting llama-server" '
            f'cmd="{command}"'
        )

    def _log_buffers(self, drafter: str | None) -> None:
        def line(where: str, kind: str, size: float) -> str:
            device = f"{'CPU':>{WIDTHS.get(where, 10)}}" + (" " if kind == "output" else "")
            return f"{where}: {device} {kind} buffer size = {size:8.2f} MiB"

        self.log += [line(*each) for each in PLAIN_BUFFERS]
        if drafter:
            name = drafter.replace(":", "-")
            self.log.append(f"common_speculative_init_result: loading draft model '<models>/blobs/{name}'")
            self.log += [line(*each) for each in DRAFT_BUFFERS]
            self.log.append(line(*DRAFT_BUFFERS[-1]))  # the buffer is made anew when speculation begins
        self.log.append('time=2026-11-23T13:39:38.599Z level=INFO msg="llama-server started in 0.25 seconds"')


def check_types(options: dict[str, Any]) -> None:
    """Go's types of options.

    Raises:
        Refused: 500, as the server has it.
    """
    for name, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in INTEGERS and not number:
            raise Refused(f'option "{name}" must be of type integer', 500)
        if name in FLOATS and not number:
            raise Refused(f'option "{name}" must be of type float32', 500)
