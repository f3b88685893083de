"""Whether the installed runtimes were built for this machine: its instruction sets, and its GPU."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

import advisor
from advisor.doctor.check import Check
from advisor.errors import AdvisorError
from advisor.machine import Availability, Cpu, Gpu, Machine, Vendor
from backends.base import Backend, load, registered
from backends.native.build import USES, used

NATIVE, CPU = "native", "CPU"
TIMEOUT_S = 20.0
GPU_FLAGS: dict[Vendor, str] = {"nvidia": "CUDA", "apple": "METAL"}
EVERYWHERE = "VULKAN"
"""What works with the drivers of all makers, where there is no library of their own that is sure to be installed."""
NEEDS = {
    "CUDA": "the CUDA toolkit (`nvcc`) has to be there",
    "METAL": "Xcode's command line tools have to be there",
    "VULKAN": "the Vulkan SDK (`glslc`) has to be there",
}
PORTABLE = "-DGGML_NATIVE=OFF"
"""A build for "this processor" trusts what a virtual machine announces."""
RELEASES = "https://github.com/ggml-org/llama.cpp/releases"
SMALLEST_GPU = 1 << 30
"""Bytes; less is no GPU that a model gains from."""


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """What a command printed, both streams. `code`: as `subprocess` has it; None: it could not be run, or hung."""

    text: str
    code: int | None


def ran(argv: Sequence[str]) -> Printed:
    """Run a command that tells about a build; never raises."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Printed(text=f"cannot be run: {error}", code=None)
    return Printed(text=done.stdout, code=done.returncode)


def reports() -> dict[str, dict[str, str]]:
    """What each backend's programs print of themselves, by command line; a broken plugin prints nothing."""
    found: dict[str, dict[str, str]] = {}
    for name in registered():
        with contextlib.suppress(AdvisorError):
            found[name] = {shlex.join(argv): ran(argv).text for argv in load(name).reports()}
    return found


def checks(backend: Backend, found: Availability, machine: Machine) -> Iterator[Check]:
    """Whether its build suits the processor and the GPU."""
    if backend.name == NATIVE:
        yield instructions(ran(backend.reports()[0]), machine.cpu)
    if (gpu := _worthwhile(machine.gpus)) and found.build == CPU:
        yield idle_gpu(found, gpu)


def instructions(printed: Printed, cpu: Cpu) -> Check:
    """Whether the processor has what llama-cpp-python was compiled for; it is loaded in a process of its own."""
    name = f"{NATIVE} build"
    if printed.code != 0:
        return Check(name=name, status="fail", message=_death(printed), command=rebuild(PORTABLE))
    needed = used(printed.text)
    # Of a processor that tells nothing, nothing can be missing.
    missing = [each for each in needed if each not in cpu.features] if _tells(cpu) else []
    if missing:
        message = f"compiled for {', '.join(missing)}, which this processor does not have: it will die (SIGILL)"
        return Check(name=name, status="fail", message=message, command=rebuild(PORTABLE))
    unused = [each for each in USES.values() if each in cpu.features and each not in needed and "amx" not in each]
    more = f"; {', '.join(unused)} would be there too" if unused else ""
    return Check(name=name, status="pass", message=f"compiled for {', '.join(needed) or 'any processor'}{more}")


def _tells(cpu: Cpu) -> bool:
    return bool(set(cpu.features) & set(USES.values()))


def _death(printed: Printed) -> str:
    if printed.code is not None and printed.code < 0:
        try:
            name = signal.Signals(-printed.code).name
        except ValueError:
            name = f"signal {-printed.code}"
        return f"llama-cpp-python dies when it is loaded ({name})"
    last = printed.text.strip().splitlines()[-1:] or ["nothing was printed"]
    return f"llama-cpp-python cannot be loaded: {last[0]}"


def _worthwhile(gpus: Sequence[Gpu]) -> Gpu | None:
    return max(
        (gpu for gpu in gpus if gpu.memory_total_bytes >= SMALLEST_GPU),
        key=lambda gpu: gpu.memory_total_bytes,
        default=None,
    )


def idle_gpu(found: Availability, gpu: Gpu) -> Check:
    """The warning of a build that leaves a GPU idle, with the line that installs another."""
    name = f"{found.name} on the GPU"
    message = f"{found.name} {found.version or ''}".strip() + f" computes on the processor only: {gpu.name} is idle"
    flag = GPU_FLAGS.get(gpu.vendor, EVERYWHERE)
    if found.name != NATIVE:
        mend = f"install a build for {'CUDA' if flag == 'CUDA' else flag.capitalize()}, from {RELEASES}"
        return Check(name=name, status="warn", message=message, mend=mend)
    return Check(
        name=name, status="warn", message=message, mend=NEEDS[flag], command=rebuild(PORTABLE, f"-DGGML_{flag}=ON")
    )


def rebuild(*flags: str) -> str:
    """The command line that compiles llama-cpp-python again, for the user's shell and installation."""
    said = " ".join(flags)
    root = Path(advisor.__file__).parents[1]
    if (root / "Makefile").is_file() and Path(sys.prefix).resolve() == (root / ".venv").resolve() and os.name != "nt":
        return f"CMAKE_ARGS='{said}' make -C {shlex.quote(str(root))} clean setup"
    python = sys.executable
    pip = f'"{python}" -m pip install' if importlib.util.find_spec("pip") else f'uv pip install --python "{python}"'
    pip = pip if re.search(r"\s", python) else pip.replace('"', "")
    options = "--force-reinstall --no-deps --no-cache-dir llama-cpp-python"
    if os.name == "nt":
        return f"$env:CMAKE_ARGS='{said}'; {'& ' if pip.startswith(chr(34)) else ''}{pip} {options}"
    return f"CMAKE_ARGS='{said}' {pip} {options}"
