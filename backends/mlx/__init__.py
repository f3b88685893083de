"""mlx-vlm's server as a backend: Apple silicon, and processors of Linux for trying it out."""

from __future__ import annotations

from collections.abc import Mapping

from backends import checkpoint
from backends.base import Endpoint, Model, Options
from backends.installed import Installed
from backends.served import Served

OWN_ERRORS = "mlx-vlm's errors are its framework's (`detail`), not OpenAI's"
INCOMPATIBLE = "Speculative drafter is incompatible"


class Mlx(Served):
    """Starts `mlx_vlm.server`; its replies count drafts, the server as a whole does not."""

    name = "mlx"
    multimodal_only = True
    uncounted = "mlx-vlm counts drafts in its answers, not of all of them"
    waived: Mapping[str, str] = {
        "stop-strings": "mlx-vlm takes no stop strings for chats",
        "errors": OWN_ERRORS,
        "context-full": OWN_ERRORS,
    }

    def argv(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        """As `Served.argv`. The context is not bounded: a bounded cache forgets its beginning.

        Raises:
            UsageError: what mlx-vlm cannot do in this way.
        """
        self.alone(options)
        words = [str(by.program), "--model", checkpoint.word(model.target)]
        words += ["--host", options.host, "--port", str(options.port)]
        if model.drafter is not None and model.draft_tokens:
            # A block is the drafts and the target's own token.
            words += ["--draft-model", checkpoint.word(model.drafter), "--draft-kind", "mtp"]
            words += ["--draft-block-size", str(model.draft_tokens + 1)]
        if options.sequences > 1:
            words += ["--max-num-seqs", str(options.sequences)]
        return (*words, *options.extra)

    def served_name(self, model: Model) -> str:
        """Exactly what it was started with: of any other name it would try to load a model."""
        return checkpoint.word(model.target)

    def why_plain(self, endpoint: Endpoint) -> str:
        from backends import logs  # noqa: PLC0415

        if endpoint.log and INCOMPATIBLE in logs.tail(endpoint.log):
            return "mlx-vlm finds the drafter incompatible with this target, and decodes without it"
        return super().why_plain(endpoint)
