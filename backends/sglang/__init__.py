"""SGLang as a backend. Its flags and counters are as its source and cookbook have them; none of it was run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from advisor.errors import UsageError
from backends.base import Endpoint, Model, Options, Stats
from backends.metered import Metered, shown_cards

DIST_PORT = 20000
"""Where the hosts of one model find one another."""
SAMPLE = re.compile(r"^sglang:(?P<name>\w+)(?:\{[^}]*\})? (?P<value>\S+)$", re.MULTILINE)


class Sglang(Metered):
    """Starts `sglang serve` with the assistant."""

    name = "sglang"

    def argv(self, program: str, model: Model, options: Options) -> tuple[str, ...]:
        where = ("--host", options.host, "--port", str(options.port))
        return (
            *self._serve(program, model, options),
            *where,
            *(_rank(0, options) if options.hosts else ()),
            *options.extra,
        )

    def elsewhere(self, program: str, model: Model, options: Options) -> dict[str, str]:
        from advisor.running import shell  # noqa: PLC0415

        return {
            host: shell.quoted([*self._serve(program, model, options), *_rank(rank, options), *options.extra])
            for rank, host in enumerate(options.hosts)
            if rank
        }

    def _serve(self, program: str, model: Model, options: Options) -> tuple[str, ...]:
        """What every host is told alike.

        Raises:
            UsageError: what SGLang cannot do in this way.
        """
        if options.kv_type != "f16":
            raise UsageError(f"a KV cache of the type {options.kv_type} is not planned for SGLang", hint="leave it out")
        if options.api_key:
            raise UsageError("SGLang takes its key on the command line, where everybody sees it", hint="leave it out")
        target = model.target.as_posix() if not model.target.is_absolute() else str(model.target)
        words = [program, "serve", "--model-path", target, "--served-model-name", model.name]
        words += [
            "--context-length",
            str(model.context_tokens),
            "--mem-fraction-static",
            str(self.runtime.card_share),
            "--enable-metrics",
        ]
        if (size := max(1, len(options.gpus)) * max(1, len(options.hosts))) > 1:
            words += ["--tp", str(size)]
        if options.sequences > 1:
            words += ["--max-running-requests", str(options.sequences)]
        if model.drafter is not None and model.draft_tokens:
            # NEXTN is promoted to what this drafter needs; tokens are the steps and the target's own.
            words += ["--speculative-algorithm", "NEXTN", "--speculative-draft-model-path", str(model.drafter)]
            words += ["--speculative-num-steps", str(model.draft_tokens)]
            words += ["--speculative-num-draft-tokens", str(model.draft_tokens + 1), "--speculative-eagle-topk", "1"]
        return tuple(words)

    def environment(self, model: Model, options: Options) -> dict[str, str]:
        """What is here is used; of several cards those that were reckoned with."""
        return super().environment(model, options) | shown_cards(options.gpus)

    def fields(self, endpoint: Endpoint) -> dict[str, Any]:
        return {"return_spec_tokens_details": True} if endpoint.drafter else {}

    def counted(self, chunk: Mapping[str, Any]) -> tuple[int, int] | None:
        told = (chunk.get("sglext") or {}).get("spec_tokens_details") or {}
        drafted, accepted = told.get("spec_num_proposed_drafts"), told.get("spec_num_correct_drafts")
        return (drafted, accepted) if isinstance(drafted, int) and isinstance(accepted, int) else None

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`. It counts rounds and the mean length that each accepted, so drafts are their product.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        from backends.group import memory_bytes  # noqa: PLC0415

        found = {each["name"]: float(each["value"]) for each in SAMPLE.finditer(self.page(endpoint, "/metrics"))}
        rounds, steps = found.get("spec_verify_calls_total"), found.get("spec_num_steps")
        mean = self._mean_length(endpoint) if endpoint.drafter and rounds is not None else None
        known = rounds is not None and steps is not None and (mean is not None or not rounds)
        drafted = int((rounds or 0) * (steps or 0)) if known else 0
        silent = "generation_tokens_total" not in found
        return Stats(
            predicted_tokens=int(found.get("generation_tokens_total", 0)),
            drafted=drafted,
            # A length of one is the target's own token alone.
            accepted=min(drafted, round((rounds or 0) * max(0.0, (mean or 1) - 1))) if known else 0,
            drafter_active=drafted > 0,
            memory_bytes=memory_bytes(endpoint.pid) if endpoint.pid else None,
            unknown="its /metrics count no tokens"
            if silent
            else "its /metrics count no drafts"
            if endpoint.drafter and not known
            else "",
        )

    def drafts(self, endpoint: Endpoint) -> bool:
        """It tells with what it was started."""
        return bool(self._told(endpoint).get("speculative_algorithm"))

    def _mean_length(self, endpoint: Endpoint) -> float | None:
        with contextlib.suppress(LookupError, TypeError, ValueError):
            return float(self._told(endpoint)["internal_states"][0]["avg_spec_accept_length"])
        return None

    def _told(self, endpoint: Endpoint) -> dict[str, Any]:
        """What it says of itself."""
        with contextlib.suppress(msgspec.DecodeError):
            told = msgspec.json.decode(self.page(endpoint, "/server_info"))
            if isinstance(told, dict):
                return told
        return {}


def _rank(rank: int, options: Options) -> tuple[str, ...]:
    head = f"{options.hosts[0]}:{DIST_PORT}"
    return ("--nnodes", str(len(options.hosts)), "--node-rank", str(rank), "--dist-init-addr", head)
