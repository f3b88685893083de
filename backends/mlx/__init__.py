"""mlx-vlm's server as a backend: Apple silicon, and processors of Linux for trying it out."""

from __future__ import annotations

from collections.abc import Mapping

from advisor.errors import UsageError
from backends.base import Endpoint, Model, Options, Stats
from backends.served import Served

ONE_PROCESS = "mlx-vlm runs on one machine"
OWN_ERRORS = "mlx-vlm's errors are its framework's (`detail`), not OpenAI's"
INCOMPATIBLE = "Speculative drafter is incompatible"


class Mlx(Served):
    """Starts `mlx_vlm.server`; its replies count drafts, the server as a whole does not."""

    name = "mlx"
    multimodal_only = True
    waived: Mapping[str, str] = {
        "stop-strings": "mlx-vlm takes no stop strings for chats",
        "errors": OWN_ERRORS,
        "context-full": OWN_ERRORS,
    }

    def argv(self, program: str, model: Model, options: Options) -> tuple[str, ...]:
        """As `Served.argv`. The context is not bounded: a bounded cache forgets its beginning.

        Raises:
            UsageError: what mlx-vlm cannot do in this way.
        """
        if options.hosts:
            raise UsageError(ONE_PROCESS, hint="vLLM divides a model among hosts")
        if options.kv_type != "f16" or options.api_key:
            raise UsageError("mlx-vlm is started without a quantised cache and without a key", hint="leave it out")
        words = [program, "--model", _place(model), "--host", options.host, "--port", str(options.port)]
        if model.drafter is not None and model.draft_tokens:
            # A block is the drafts and the target's own token.
            words += ["--draft-model", str(model.drafter), "--draft-kind", "mtp"]
            words += ["--draft-block-size", str(model.draft_tokens + 1)]
        if options.sequences > 1:
            words += ["--max-num-seqs", str(options.sequences)]
        return (*words, *options.extra)

    def served_name(self, model: Model) -> str:
        """Exactly what it was started with: of any other name it would try to load a model."""
        return _place(model)

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`: nothing but memory.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        from backends.group import memory_bytes  # noqa: PLC0415

        self.page(endpoint, self.health)
        memory = memory_bytes(endpoint.pid) if endpoint.pid else None
        unknown = "mlx-vlm counts drafts in its answers, not of all of them"
        return Stats(predicted_tokens=0, memory_bytes=memory, unknown=unknown)

    def why_plain(self, endpoint: Endpoint) -> str:
        from backends import logs  # noqa: PLC0415

        if endpoint.log and INCOMPATIBLE in logs.tail(endpoint.log):
            return "mlx-vlm finds the drafter incompatible with this target, and decodes without it"
        return super().why_plain(endpoint)


def _place(model: Model) -> str:
    return model.target.as_posix() if not model.target.is_absolute() else str(model.target)
