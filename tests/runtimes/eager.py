"""vLLM as it starts soonest. A module of its own, because the conformance suite imports it in a fresh process."""

from __future__ import annotations

from backends.base import Model, Options
from backends.vllm import Vllm


class Eager(Vllm):
    """Without compiling the model, which takes a minute of each start."""

    def argv(self, program: str, model: Model, options: Options) -> tuple[str, ...]:
        return (*super().argv(program, model, options), "--enforce-eager")
