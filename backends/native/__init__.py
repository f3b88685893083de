"""The project's own speculative engine on llama-cpp-python, as a backend."""

from __future__ import annotations

import os
import shlex
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from advisor.errors import NoBackend, UsageError
from advisor.machine import Availability
from backends.base import LaunchPlan, Model, Options
from backends.hosted import Hosted

HINT = "make setup"
AUTO = "auto"
"""On the command line: draft lengths that adapt; -1 as a number."""
CPU = "CPU"
BUILDS = {
    "cuda": "CUDA",
    "hip": "ROCm",
    "metal": "Metal",
    "vulkan": "Vulkan",
    "sycl": "SYCL",
    "opencl": "OpenCL",
    "musa": "MUSA",
    "cann": "CANN",
}
"""llama.cpp's libraries for GPUs, by the word in their file's name."""
GPU_HINT = (
    "for a GPU, compile it again: CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_CUDA=ON' make clean setup "
    "(NVIDIA; GGML_VULKAN=ON for others)"
)


def built_for(folder: Path) -> str:
    """What the installed build computes on, from its libraries' names: loading it to ask takes a second."""
    names = [file.name for file in folder.glob("*ggml-*")] if folder.is_dir() else []
    return next((BUILDS[word] for word in BUILDS if any(f"ggml-{word}" in name for name in names)), CPU)


class Native(Hosted):
    """Runs a target and its drafter in a child process that ends with this one."""

    name = "native"

    def detect(self) -> Availability:
        """Whether llama-cpp-python is here, without importing it; the drafter needs its experimental API."""
        spec = find_spec("llama_cpp")
        if spec is None or spec.origin is None:
            return Availability(
                name=self.name,
                available=False,
                why_not="llama-cpp-python is not installed",
                hint=f"run `{HINT}`",
                mend=HINT,
            )
        folder = Path(spec.origin).parent
        drafter = (folder / "llama_cpp_ext.py").is_file()
        # llama-cpp-python's own variable for a llama.cpp that was built apart.
        build = built_for(Path(os.environ.get("LLAMA_CPP_LIB_PATH") or folder / "lib"))
        return Availability(
            name=self.name,
            available=True,
            version=metadata.version("llama_cpp_python"),
            drafter=drafter,
            why_not=None if drafter else "this llama-cpp-python is too old for drafters",
            path=str(folder),
            hint=(None if build != CPU else GPU_HINT) if drafter else f"run `{HINT}`",
            mend=None if drafter else HINT,
            build=build,
        )

    def reports(self) -> tuple[tuple[str, ...], ...]:
        return ((sys.executable, "-P", "-m", "backends.native.build"),)

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Backend.plan`.

        Raises:
            UsageError: the options ask for what the engine does not do.
        """
        for asked, option in ((options.kv_type != "f16", "--kv-type"), (options.sequences > 1, "--parallel")):
            if asked:
                raise UsageError(f"the native engine has no {option}", hint="leave it out, or use --backend llama.cpp")
        argv = [sys.executable, "-P", "-m", "backends.native.server", "--target", str(model.target)]
        if model.drafter is not None:
            length = AUTO if model.draft_tokens < 0 else str(model.draft_tokens)
            argv += ["--drafter", str(model.drafter), "--draft-tokens", length]
        argv += ["--context", str(model.context_tokens), "--name", model.name]
        argv += ["--host", options.host, "--port", str(options.port)]
        if options.threads is not None:
            argv += ["--threads", str(options.threads)]
        if options.gpu_layers is not None:
            argv += ["--gpu-layers", str(options.gpu_layers)]
        argv += options.extra
        return LaunchPlan(backend=self.name, model=model, options=options, argv=tuple(argv), command=shlex.join(argv))

    def check(self, plan: LaunchPlan) -> None:
        """That llama-cpp-python is here, and what the files' headers say.

        Raises:
            NoBackend: it is missing.
            RuntimeFailed: a file is wrong.
        """
        from advisor.files import gguf  # noqa: PLC0415 - numpy's import belongs to starting, not to asking

        found = self.detect()
        if not found.available:
            raise NoBackend(str(found.why_not), hint=found.hint or "")
        gguf.pair(plan.model.target, plan.model.drafter)
