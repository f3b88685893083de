"""Transformers as a backend: `generate` with Gemma's assistant, behind this project's own server.

For those who have PyTorch and nothing else. Transformers' own server takes no assistant, so the native engine's serves
here too.
"""

from __future__ import annotations

import sys
from importlib import metadata

import msgspec

from advisor.errors import RuntimeFailed, UsageError
from advisor.knowledge.profile import Runtime
from advisor.machine import Availability
from backends.base import UNWATCHED, Endpoint, LaunchPlan, Model, Options, Watch
from backends.hosted import Hosted

AUTO = "auto"
PACKAGES = ("torch", "transformers")
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
"""Threads that wait for one another spin by default: beside other programs the demo pair then makes 5 tokens a second
with two of them, instead of 60 when they sleep."""
CUDA = ("nvidia", "amd")
"""Vendors whose cards PyTorch calls `cuda`."""


class Transformers(Hosted):
    """Runs a checkpoint and its assistant in a child process that ends with this one."""

    name = "transformers"

    @property
    def runtime(self) -> Runtime:
        """What the profiles know of it."""
        from advisor.knowledge import catalog  # noqa: PLC0415 - read once for all

        return catalog.load().runtimes[self.name]

    # ---- What it is

    def detect(self) -> Availability:
        """By the packages' metadata: importing PyTorch takes seconds."""
        from backends import fitness  # noqa: PLC0415

        if missing := [name for name in PACKAGES if not _version(name)]:
            return fitness.absent(self.runtime, f"not installed: {' and '.join(missing)}")
        return fitness.present(self.runtime, _version(self.name), sys.executable)

    def reports(self) -> tuple[tuple[str, ...], ...]:
        show = "import torch, transformers; print(transformers.__version__); print(torch.__config__.show())"
        return ((sys.executable, "-c", show),) if all(map(_version, PACKAGES)) else ()

    def refusal(self, model: Model) -> str:
        """As `Backend.refusal`: no GGUF."""
        for file in (model.target, model.drafter):
            if file is not None and file.suffix.lower() == ".gguf":
                return f"Transformers reads checkpoints in Hugging Face's format, no GGUF files ({file.name})"
        return ""

    # ---- Starting

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Backend.plan`.

        Raises:
            UsageError: the options ask for what it does not do.
        """
        from advisor.running import shell  # noqa: PLC0415
        from backends import checkpoint  # noqa: PLC0415

        if len(options.gpus) > 1:
            raise UsageError(
                f"the transformers backend uses one GPU, and {model.name} needs {len(options.gpus)}",
                hint="vLLM divides a model among GPUs: --backend vllm",
            )
        for asked, option in (
            (options.kv_type != "f16", "--kv-type"),
            (options.sequences > 1, "--parallel"),
            (options.hosts, "--hosts"),
            (model.projector, "--projector"),
        ):
            if asked:
                raise UsageError(f"the transformers backend has no {option}", hint="leave it out, or use vLLM")
        here = checkpoint.located(model)
        argv = [sys.executable, "-P", "-m", "backends.pytorch.server", "--target", checkpoint.word(here.target)]
        if here.drafter is not None and model.draft_tokens:
            length = AUTO if model.draft_tokens < 0 else str(model.draft_tokens)
            argv += ["--drafter", checkpoint.word(here.drafter), "--draft-tokens", length]
        argv += ["--context", str(model.context_tokens), "--name", model.name]
        argv += ["--host", options.host, "--port", str(options.port)]
        if options.threads is not None:
            argv += ["--threads", str(options.threads)]
        argv += _device(options)
        argv += options.extra
        return LaunchPlan(
            backend=self.name,
            model=model,
            options=options,
            argv=tuple(argv),
            environment=ENVIRONMENT,
            command=shell.quoted(argv),
        )

    def check(self, plan: LaunchPlan) -> None:
        """That it is installed and new enough for this model, and that target and drafter belong together.

        Raises:
            NoBackend: it is missing, too old, or does not read such files.
            RuntimeFailed: a checkpoint is not here, or is no Gemma 4, or the drafter is another's.
        """
        from backends import checkpoint, fitness  # noqa: PLC0415

        fitness.check(self, self.runtime, plan.model)
        here = checkpoint.located(plan.model)
        checkpoint.check(here.target, here.drafter)

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Hosted.start`, in the words of PyTorch where the processor is not up to it."""
        # What was planned by name may be here by now.
        plan = msgspec.structs.replace(plan, argv=self.plan(plan.model, plan.options).argv)
        try:
            return super().start(plan, watch)
        except RuntimeFailed as error:
            if "SIGILL" not in error.message:
                raise
            raise RuntimeFailed(
                "PyTorch met an instruction that this processor does not have (SIGILL)",
                hint="the drafter is not to blame; on processors `-- --dtype float32` avoids it",
            ) from None


def _version(package: str) -> str:
    """The version of a package in this environment; empty where it has none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _device(options: Options) -> list[str]:
    """On which device, where PyTorch would choose another: by itself it takes the first GPU that it is built for."""
    if options.gpu_layers == 0:
        return ["--device", "cpu"]
    card = options.gpus[0] if options.gpus else None
    return ["--device", f"cuda:{card.index}"] if card and card.index and card.vendor in CUDA else []
