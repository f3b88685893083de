"""`advisor detect`: the machine, in words or as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping

import click
import msgspec

from advisor.hardware.detection import detect
from advisor.knowledge.catalog import load
from advisor.machine import Availability, Cpu, Gpu, Machine, Memory

WIDEST = 80
GIB = 1 << 30
SYSTEMS = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}
PLACES = {"wsl": ", in WSL", "container": ", in a container"}
SHOWN_FEATURES = (
    "avx avx2 fma f16c avx_vnni avx512f avx512_vnni avx512_bf16 avx512vbmi amx_tile neon dotprod i8mm bf16 sve sve2 sme"
)

Line = tuple[str, str]
"""A label and what is said; the label is empty where the one above goes on."""


@click.command(
    epilog="\b\nExamples:\n  advisor detect\n  advisor detect --json > machine.json"
    "\n  advisor recommend --machine machine.json"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, which --machine reads.")
def command(*, as_json: bool) -> None:
    """Show the machine: processor, memory, GPUs, backends.

    Memory is what this process may use, so in a container it is the container's. Figures that were not read from the
    machine itself say where they come from.
    """
    machine = detect(load().devices.values())
    if as_json:
        click.echo(msgspec.json.encode(machine))
        return
    show(machine_lines(machine))


def show(lines: list[Line]) -> None:
    """Print labels and texts in two columns, never wider than 80 and never wider than the terminal."""
    from rich.console import Console  # noqa: PLC0415 - 30 ms that --json does not need
    from rich.table import Table  # noqa: PLC0415

    width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in lines:
        table.add_row(label, text)
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def machine_lines(machine: Machine) -> list[Line]:
    """The machine in words."""
    system = f"{SYSTEMS.get(machine.os, machine.os)} {machine.os_version} ({machine.arch})"
    notes = len(machine.problems)
    return [
        ("System", system + PLACES.get(machine.environment, "")),
        *_cpu(machine.cpu),
        *_memory(machine.memory, machine.basis),
        *_gpus(machine),
        *_labelled("Backends", backend_texts(machine.backends) or ["none"]),
        *([("Notes", f"{notes}, shown by: advisor doctor")] if notes else []),
    ]


def _cpu(cpu: Cpu) -> list[Line]:
    shown = [name for name in SHOWN_FEATURES.split() if name in cpu.features]
    counts = f"{_count(cpu.cores, 'core')}, {_count(cpu.threads, 'thread')}"
    return _labelled("Processor", [f"{cpu.name}, {counts}", *([" ".join(shown)] if shown else [])])


def _memory(memory: Memory, basis: Mapping[str, str]) -> list[Line]:
    parts = [f"{gib(memory.total_bytes)}, {gib(memory.available_bytes)} available"]
    if memory.bandwidth_bytes_per_s:
        parts.append(rate(memory.bandwidth_bytes_per_s, basis.get("memory.bandwidth_bytes_per_s")))
    lines = [("Memory", ", ".join(parts) + (", shared with the GPU" if memory.unified else ""))]
    if memory.limit_bytes is not None:
        lines.append(("", f"limited to {gib(memory.limit_bytes)} by {memory.limit_source}"))
    return lines


def _gpus(machine: Machine) -> list[Line]:
    if not machine.gpus:
        return [("GPU", "none that a runtime could use")]
    return [
        (f"GPU {place}" if len(machine.gpus) > 1 else "GPU", _gpu(gpu, place, machine.basis))
        for place, gpu in enumerate(machine.gpus)
    ]


def _gpu(gpu: Gpu, place: int, basis: Mapping[str, str]) -> str:
    guessed = " (assumed)" if basis.get(f"gpus.{place}.memory_total_bytes") == "assumed" else ""
    kind = ", integrated" if gpu.integrated else ""
    parts = [f"{gpu.name}{kind}", f"{gib(gpu.memory_total_bytes)}{guessed}", f"{gib(gpu.memory_free_bytes)} free"]
    if gpu.bandwidth_bytes_per_s:
        parts.append(rate(gpu.bandwidth_bytes_per_s, basis.get(f"gpus.{place}.bandwidth_bytes_per_s")))
    return ", ".join(parts)


def backend_texts(backends: Iterable[Availability]) -> list[str]:
    """Each backend in words; those that nobody has to have in one line where they are not installed."""
    known = tuple(backends)
    absent = [one.name for one in known if one.reads == "checkpoint" and not one.available and one.path is None]
    texts = [backend_text(one) for one in known if one.name not in absent]
    return texts + ([f"{', '.join(absent)}: not installed"] if absent else [])


def backend_text(backend: Availability) -> str:
    """One backend in words: what it is and what it lacks, or why it is not there."""
    if not backend.available:
        return f"{backend.name}: {backend.why_not or 'not available'}"
    drafter = "with" if backend.drafter else "without"
    build = f" ({backend.build} build)" if backend.build else ""
    lacks = f"; {backend.why_not}" if backend.why_not else ""
    return f"{backend.name} {backend.version or ''}".strip() + f"{build}, {drafter} Gemma's drafter{lacks}"


def _labelled(label: str, texts: list[str]) -> list[Line]:
    return [(label if first else "", text) for first, text in zip([True] + [False] * len(texts), texts, strict=False)]


def gib(size: int) -> str:
    """A size in GiB with one decimal."""
    return f"{size / GIB:.1f} GiB"


def rate(speed: int, basis: str | None) -> str:
    """A rate in GB/s, with its basis unless it was measured."""
    said = "" if basis in (None, "measured") else f" ({basis})"
    return f"{speed / 1e9:.0f} GB/s{said}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
