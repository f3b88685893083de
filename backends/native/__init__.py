"""The project's own speculative engine on llama-cpp-python, as a backend."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.errors import NoBackend, RuntimeFailed, UsageError
from advisor.machine import Availability
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Stats, Watch

if TYPE_CHECKING:
    from backends.native.process import Process

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


class Native(Backend):
    """Runs a target and its drafter in a child process that ends with this one."""

    name = "native"
    drafts_per_request = True

    def __init__(self) -> None:
        self._running: dict[int, Process] = {}

    def detect(self) -> Availability:
        """Whether llama-cpp-python is here, without importing it; the drafter needs its experimental API."""
        spec = find_spec("llama_cpp")
        if spec is None or spec.origin is None:
            return Availability(
                name=self.name, available=False, why_not="llama-cpp-python is not installed", hint=f"run `{HINT}`"
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

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Backend.start`; the files' headers are checked before any process is started.

        Raises:
            NoBackend: llama-cpp-python is missing.
            RuntimeFailed: a file is wrong, or the engine did not come up.
        """
        from advisor import gguf  # noqa: PLC0415 - numpy's import belongs to starting, not to asking
        from advisor.client import KEY  # noqa: PLC0415
        from backends.native.process import Process  # noqa: PLC0415

        found = self.detect()
        if not found.available:
            raise NoBackend(str(found.why_not), hint=found.hint or "")
        gguf.pair(plan.model.target, plan.model.drafter)
        options = plan.options
        made = functools.partial(Process, log=options.log) if options.log else Process.start
        process = made(
            plan.argv,
            attached=not options.detached,
            environment={KEY: options.api_key} if options.api_key else None,
            spawned=lambda one: watch.spawned(self._coming(plan, one)),
        )
        try:
            ready = process.wait_ready()
        except RuntimeFailed as error:
            process.stop()
            raise named(error, plan.model) from None
        except BaseException:
            process.stop()
            raise
        self._running[process.pid] = process
        host = f"[{ready['host']}]" if ":" in ready["host"] else ready["host"]
        return Endpoint(
            base_url=f"http://{host}:{ready['port']}/v1",
            model=ready["model"],
            backend=self.name,
            pid=process.pid,
            name=plan.model.name,
            log=process.log,
            drafter=ready["drafter"],
            api_key=options.api_key,
        )

    def _coming(self, plan: LaunchPlan, process: Process) -> Endpoint:
        """The endpoint that a process will be; with a port of its own choice, its address is not known yet."""
        options, model = plan.options, plan.model
        return Endpoint(
            base_url=f"http://{options.host}:{options.port}/v1",
            model=model.name,
            backend=self.name,
            pid=process.pid,
            name=model.name,
            log=process.log,
            drafter=model.drafter is not None,
            api_key=options.api_key,
        )

    def cause(self, endpoint: Endpoint) -> RuntimeFailed:
        """Why an endpoint no longer answers."""
        from backends.native.death import ending, last_lines  # noqa: PLC0415

        process = self._running.get(endpoint.pid or 0)
        if process is None:
            said = "; ".join(last_lines(endpoint.log)) if endpoint.log else ""
            return RuntimeFailed(ending(f"the engine at {endpoint.base_url} does not answer", said))
        return process.cause()

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`.

        Raises:
            RuntimeFailed: the engine does not answer.
        """
        import httpx  # noqa: PLC0415
        import psutil  # noqa: PLC0415

        from advisor.client import KEY, authorized  # noqa: PLC0415

        key = endpoint.api_key
        try:
            url = endpoint.base_url.removesuffix("/v1") + "/metrics"
            reply = httpx.get(url, timeout=5, headers=authorized(key), trust_env=False, verify=False)  # noqa: S501 - no https
            memory = psutil.Process(endpoint.pid).memory_info().rss if endpoint.pid else None
        except (httpx.HTTPError, psutil.Error):
            raise self.cause(endpoint) from None
        if reply.is_error:
            raise RuntimeFailed(
                f"the engine at {endpoint.base_url} answered {reply.status_code}",
                hint=f"its API key belongs into ${KEY}",
            )
        values = {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", reply.text, re.MULTILINE)}
        positions = sum(name.startswith("advisor_drafted_at_total") for name in values)

        def at(kind: str, position: int) -> float:
            return values[f'advisor_{kind}_at_total{{position="{position}"}}']

        tokens, seconds = int(values["advisor_predicted_tokens_total"]), values["advisor_predicted_seconds_total"]
        drafted = int(values["advisor_drafted_tokens_total"])
        return Stats(
            predicted_tokens=tokens,
            # The first token of each answer belongs to its prompt.
            predicted_per_second=(tokens - values["advisor_requests_total"]) / seconds if seconds else None,
            drafted=drafted,
            accepted=int(values["advisor_accepted_tokens_total"]),
            accepted_per_position=tuple(at("accepted", i) / at("drafted", i) for i in range(positions)),
            drafter_active=drafted > 0,
            memory_bytes=memory,
        )

    def stop(self, endpoint: Endpoint) -> None:
        from backends.native.process import LONG_GRACE, stop_group  # noqa: PLC0415

        process = self._running.pop(endpoint.pid or 0, None)
        if process is not None:
            process.stop()
        elif endpoint.pid:
            stop_group(endpoint.pid, LONG_GRACE)


def named(error: RuntimeFailed, model: Model) -> RuntimeFailed:
    """The error with the model's files in it: what llama.cpp asserts does not say which file it was about."""
    files = [file for file in (model.target, model.drafter) if file is not None]
    if any(file.name in error.message for file in files):
        return error
    where = " with ".join(map(str, files))
    return type(error)(f"{where}: {error.message}", hint=error.hint, command=error.command)
