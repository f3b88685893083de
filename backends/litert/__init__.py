"""LiteRT-LM as a backend: E2B and E4B in one file with their drafter inside.

Its replies count no drafts and its server tells of none, so it is benchmarked before it serves, with and without.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from advisor.errors import RuntimeFailed
from advisor.machine import Record
from backends.base import Endpoint, LaunchPlan, Model, Options, Verdict
from backends.installed import Installed
from backends.served import Served

SUFFIX = ".litertlm"
BENCH_TOKENS, BENCH_S = 64, 600.0
RATE = re.compile(r"decode\b[^\n]*?([\d.]+)\s*(?:tokens?|tok)\s*(?:/|per)\s*s", re.IGNORECASE)
SUCCESS = re.compile(r"MTP Drafter - Success rate: ([\d.]+)")


class Bench(Record, frozen=True, kw_only=True):
    """What `litert-lm benchmark` printed: tokens per second with and without drafting, and the share of accepted
    drafts; None where it did not say."""

    drafting: float | None = None
    plain: float | None = None
    accepted: float | None = None


class LiteRT(Served):
    """Writes a configuration of its own and starts `litert-lm serve` with it."""

    name = "litert"
    health = "/v1/models"
    one_file = True
    uncounted = "LiteRT-LM counts no drafts"
    waived: Mapping[str, str] = {
        "chat": "LiteRT-LM takes `max_completion_tokens`, and no `max_tokens`",
        "stop-strings": "LiteRT-LM takes no stop strings",
        "start": "LiteRT-LM lists imported models only, and loads the one that a request names",
        "errors": "LiteRT-LM answers malformed requests with pages of HTML",
        "context-full": "LiteRT-LM answers malformed requests with pages of HTML",
    }

    def __init__(self) -> None:
        super().__init__()
        self._benches: dict[str, Bench] = {}

    def refusal(self, model: Model) -> str:
        if model.target.suffix != SUFFIX:
            return f"LiteRT-LM reads {SUFFIX} files only, and there are some of E2B and E4B"
        return ""

    def argv(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        """As `Served.argv`; the model and whether it drafts are in the configuration.

        Raises:
            UsageError: what LiteRT-LM cannot do.
        """
        self.alone(options)
        where = ("--host", options.host, "--port", str(options.port))
        return (str(by.program), "serve", "--config", str(config_file(model, options)), *where, *options.extra)

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Served.plan`, with the configuration written in the command."""
        from advisor.running import shell  # noqa: PLC0415

        made = super().plan(model, options)
        written = shell.quoted([config(model, options)])
        file = config_file(model, options)
        folder, path = shell.quoted([str(file.parent)]), shell.quoted([str(file)])
        before = f"mkdir -p {folder} && printf %s {written} > {path}"
        return msgspec.structs.replace(made, command=f"{before} && {made.command}")

    def environment(self, model: Model, options: Options) -> dict[str, str]:  # noqa: ARG002 - it fetches nothing
        return {}

    def served_name(self, model: Model) -> str:
        return str(model.target)

    def check_files(self, model: Model) -> None:
        if not model.target.is_file():
            raise RuntimeFailed(f"{model.target} is not here", hint="fetch it: `hf download REPOSITORY FILE`")

    def before(self, plan: LaunchPlan) -> None:
        """Write the configuration, and see what drafting is worth: nothing tells afterwards."""
        path = config_file(plan.model, plan.options)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config(plan.model, plan.options), encoding="utf-8")
        if plan.model.draft_tokens and str(plan.model.target) not in self._benches:
            self._benches[str(plan.model.target)] = self._bench(plan)

    def _bench(self, plan: LaunchPlan) -> Bench:
        text = self._benchmark(plan, drafting=True)
        accepted = SUCCESS.search(text)
        return Bench(
            drafting=_rate(text),
            plain=_rate(self._benchmark(plan, drafting=False)),
            accepted=float(accepted[1]) if accepted else None,
        )

    def _benchmark(self, plan: LaunchPlan, *, drafting: bool) -> str:
        """What it printed. It ends with 0 also where it fails, so the output decides.

        Raises:
            RuntimeFailed: it cannot run this file so.
        """
        from backends import roots  # noqa: PLC0415

        words = [plan.argv[0], "benchmark", str(plan.model.target), "--backend", processor(plan.options)]
        words += ["--speculative-decoding", str(drafting).lower(), "--verbose", "-d", str(BENCH_TOKENS)]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=BENCH_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeFailed(f"LiteRT-LM cannot be benchmarked: {error}") from None
        text = done.stdout
        failed = re.search(r"Failed to |Could not |Traceback|Error:", text) is not None or done.returncode != 0
        if failed and _rate(text) is None:
            hint = "this file may hold no drafter: launch with --no-drafter" if drafting else "fetch the file anew"
            raise RuntimeFailed(f"LiteRT-LM does not run {plan.model.target.name}: {roots.line(text)}", hint=hint)
        return text

    def fields(self, endpoint: Endpoint, asked: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """It knows the limit by its newer name only, and writes to the end without."""
        limit = asked.get("max_tokens")
        return {} if limit is None else {"max_completion_tokens": limit}

    def drafting(self, endpoint: Endpoint) -> Verdict:
        """By the benchmark before the start: this server counts no drafts."""
        found = self._benches.get(endpoint.model, Bench())
        if found.accepted is None:
            return Verdict(active=None, reason="LiteRT-LM does not count drafts, and its benchmark told of none")
        speeds = ""
        if found.drafting and found.plain:
            speeds = f", {found.drafting:.1f} tokens/s against {found.plain:.1f} without"
        said = f"in the benchmark before the start {found.accepted:.0%} of the drafts were accepted{speeds}"
        slower = bool(found.drafting and found.plain and found.drafting < found.plain)
        return Verdict(active=found.accepted > 0, reason=said, slower=slower)


def processor(options: Options) -> str:
    """Where it computes, in its words."""
    return "gpu" if options.gpus and options.gpu_layers != 0 else "cpu"


def config(model: Model, options: Options) -> str:
    """Its configuration: a request names the model, so this holds for all of them."""
    told = {
        "speculative_decoding": model.draft_tokens > 0,
        "backend": processor(options),
        "max_num_tokens": model.context_tokens,
    }
    return msgspec.json.encode({"default": told}).decode()


def config_file(model: Model, options: Options) -> Path:
    """Where that is written: a file for every content, because changing one needs a new server anyway."""
    from advisor.paths import cache_folder  # noqa: PLC0415

    digest = hashlib.sha256(config(model, options).encode()).hexdigest()[:12]
    return cache_folder() / "litert" / f"{digest}.json"


def _rate(text: str) -> float | None:
    found = RATE.findall(text)
    return float(found[-1]) if found else None
