"""SGLang as a backend. Its flags and counters are as its source and cookbook have them; its own parser took the flags,
and no model was run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from advisor.errors import UsageError
from backends import checkpoint
from backends.base import Endpoint, Model, Options, Stats
from backends.installed import Installed
from backends.metered import Metered
from backends.samples import samples

DIST_PORT = 20000
"""Where the hosts of one model find one another."""


class Sglang(Metered):
    """Starts `sglang serve` with the assistant."""

    name = "sglang"
    version_words = ("version",)

    def serving(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        if options.kv_type != "f16":
            raise UsageError(f"a KV cache of the type {options.kv_type} is not planned for SGLang", hint="leave it out")
        if options.api_key:
            raise UsageError("SGLang takes its key on the command line, where everybody sees it", hint="leave it out")
        words = [str(by.program), "serve", "--model-path", checkpoint.word(model.target)]
        words += ["--served-model-name", model.name, "--context-length", str(model.context_tokens)]
        words += ["--mem-fraction-static", str(self.runtime.card_share), "--enable-metrics"]
        if (size := max(1, len(options.gpus)) * max(1, len(options.hosts))) > 1:
            words += ["--tp", str(size)]
        if options.sequences > 1:
            words += ["--max-running-requests", str(options.sequences)]
        if model.drafter is not None and model.draft_tokens:
            # NEXTN is promoted to what this drafter needs; tokens are the steps and the target's own.
            words += ["--speculative-algorithm", "NEXTN"]
            words += ["--speculative-draft-model-path", checkpoint.word(model.drafter)]
            words += ["--speculative-num-steps", str(model.draft_tokens)]
            words += ["--speculative-num-draft-tokens", str(model.draft_tokens + 1), "--speculative-eagle-topk", "1"]
        return tuple(words)

    def rank(self, rank: int, options: Options) -> tuple[str, ...]:
        head = f"{options.hosts[0]}:{DIST_PORT}"
        return ("--nnodes", str(len(options.hosts)), "--node-rank", str(rank), "--dist-init-addr", head)

    def fields(self, endpoint: Endpoint, asked: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
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
        found = {each.name: each.value for each in samples(self.page(endpoint, "/metrics"), "sglang")}
        return self.reported(endpoint, found, self._drafts(endpoint, found) if endpoint.drafter else None)

    def _drafts(self, endpoint: Endpoint, found: Mapping[str, float]) -> tuple[int, int] | None:
        rounds, steps = found.get("spec_verify_calls_total"), found.get("spec_num_steps")
        if rounds is None or steps is None:
            return None
        if not rounds:
            return 0, 0
        mean = self._mean_length(endpoint)
        if mean is None:
            return None
        drafted = int(rounds * steps)
        # A length of one is the target's own token alone.
        return drafted, min(drafted, round(rounds * max(0.0, mean - 1)))

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
