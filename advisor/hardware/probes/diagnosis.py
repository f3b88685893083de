"""What a machine's facts mean for running a model: the part of `advisor doctor` that no probe can see alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from advisor.machine import Availability, Machine, Problem

GIB = 1 << 30
SMALLEST_BYTES = 2 * GIB
"""Below this nothing but the embedded demo model runs."""

NEEDED = ("avx2", "fma", "f16c")
X86 = ("x86_64", "amd64", "AMD64")


def diagnose(machine: Machine) -> tuple[Problem, ...]:
    """Everything worth telling: what the probes reported, then what follows from the facts together."""
    return (*machine.problems, *_processor(machine), *_memory(machine), *_gpus(machine), *_backends(machine.backends))


def _processor(machine: Machine) -> Iterator[Problem]:
    features = machine.cpu.features
    if machine.arch in X86 and machine.cpu.vendor == "apple":
        hint = "install Python for arm64: under Rosetta neither Metal nor NEON can be used"
        yield Problem(probe="cpu", message="this Python is an Intel build running on an Apple chip", hint=hint)
    elif machine.arch in X86:
        missing = [name for name in NEEDED if name not in features]
        if missing:
            message = f"the processor lacks {', '.join(missing)}: ready-made runtimes end with an illegal instruction"
            yield Problem(probe="cpu", message=message, hint="compile llama.cpp on this machine")
    if "amx_tile" in features:
        message = "the processor announces AMX; virtual machines often announce it and do not allow it"
        hint = "if a runtime ends with an illegal instruction (SIGILL), compile it with -DGGML_NATIVE=OFF"
        yield Problem(probe="cpu", message=message, hint=hint)


def _memory(machine: Machine) -> Iterator[Problem]:
    free = machine.memory.available_bytes
    if 0 < free < SMALLEST_BYTES:
        message = f"only {free / GIB:.1f} GiB of memory is available"
        yield Problem(probe="memory", message=message, hint="close programs; `advisor demo` runs in any case")


def _gpus(machine: Machine) -> Iterator[Problem]:
    if not machine.gpus:
        yield Problem(probe="gpu", message="no GPU was found that a runtime could use: models run on the processor")


def _backends(backends: tuple[Availability, ...]) -> Iterator[Problem]:
    for backend in backends:
        if not backend.available:
            message = f"{backend.name}: {backend.why_not or 'not available'}"
            yield Problem(probe="backends", message=message, hint=backend.hint)
        elif not backend.drafter:
            message = f"{backend.name} {backend.version or ''}".strip() + " cannot run Gemma's drafter"
            yield Problem(probe="backends", message=message, hint=backend.hint)
