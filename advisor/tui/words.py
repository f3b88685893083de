"""What is said of a machine and an answer: text and sizes, before anything is drawn."""

from __future__ import annotations

from typing import NamedTuple

from advisor.machine import Cpu, Gpu, Machine
from advisor.memory.placement import in_words
from advisor.pages.parts import MemoryParts
from advisor.pages.report import Document, RecommendationPart
from advisor.pages.terminal import preference, two_digits
from advisor.tui.state import Answer, Choice

SILENT_S = 8.0
"""Without a word for so long, it is said; long prompts and large files take their time."""


class Hold(NamedTuple):
    """A memory of the machine: how much others hold of it. Bytes."""

    name: str
    held: int
    total: int
    note: str


class Room(NamedTuple):
    """A memory of an answer: what it holds by part, and how much of it may be used. Bytes."""

    name: str
    parts: tuple[tuple[str, int], ...]
    total: int

    @property
    def used(self) -> int:
        return sum(size for _, size in self.parts)

    @property
    def free(self) -> int:
        return max(0, self.total - self.used)


# ---- The machine


def origin(machine: Machine, choice: Choice) -> str:
    """Where the picture of the machine is from."""
    if choice.spec is not None:
        return f"simulated: {choice.spec}"
    from advisor.commands.detect import SYSTEMS  # noqa: PLC0415 - with all probes, and there is a picture before those

    place = {"wsl": ", in WSL", "container": ", in a container"}.get(machine.environment, "")
    changed = ", corrected by you" if choice.gpu is not None or choice.memory is not None else ""
    return f"{SYSTEMS.get(machine.os, machine.os)}{place}{changed}"


def holds(machine: Machine) -> list[Hold]:
    """The machine's memories, GPUs of one kind together."""
    memory = machine.memory
    total = memory.total_bytes if memory.limit_bytes is None else min(memory.limit_bytes, memory.total_bytes)
    rate = f"{memory.bandwidth_bytes_per_s / 1e9:.0f} GB/s" if memory.bandwidth_bytes_per_s else ""
    limit = f"limited by {memory.limit_source}" if memory.limit_bytes is not None else ""
    name = "Shared memory" if memory.unified else "Main memory"
    main = Hold(name, max(0, total - memory.available_bytes), total, ", ".join(filter(None, (rate, limit))))
    return [*cards(machine), main]


def cards(machine: Machine) -> list[Hold]:
    """One entry for each kind of card with a memory of its own."""
    own = [gpu for gpu in machine.gpus if not (gpu.integrated and machine.memory.unified)]
    groups: dict[str, list[Gpu]] = {}
    for gpu in own:
        groups.setdefault(gpu.name, []).append(gpu)
    return [card(name, gpus) for name, gpus in groups.items()]


def card(name: str, gpus: list[Gpu]) -> Hold:
    total = sum(gpu.memory_total_bytes for gpu in gpus)
    free = sum(gpu.memory_free_bytes for gpu in gpus)
    rate = gpus[0].bandwidth_bytes_per_s
    note = f"{rate / 1e9:,.0f} GB/s" + (" each" if len(gpus) > 1 else "") if rate else "speed not known"
    return Hold(f"{len(gpus)}x {name}" if len(gpus) > 1 else name, total - free, total, note)


def processor(machine: Machine) -> str:
    """The processor, and the GPU in it where it shares the memory."""
    cpu = machine.cpu
    shared = [gpu.name for gpu in machine.gpus if gpu.integrated and machine.memory.unified]
    inside = f"GPU {shared[0]}" if shared and shared[0] != cpu.name else "its GPU shares the memory" if shared else ""
    return ", ".join(filter(None, (cpu.name, counted(cpu), inside)))


def counted(cpu: Cpu) -> str:
    """Cores and threads, where the name does not say them already."""
    threads = f", {cpu.threads} threads" if cpu.threads != cpu.cores else ""
    return "" if "-core" in cpu.name else f"{cpu.cores} core{'' if cpu.cores == 1 else 's'}{threads}"


# ---- The answer


def subtitle(pick: RecommendationPart) -> str:
    """File, drafter and backend."""
    drafter = "with its drafter" if pick.drafter.enabled else "without a drafter"
    engine = "the native engine" if pick.backend == "native" else pick.backend
    return f"{pick.quant}, {drafter}, on {engine}"


def purpose(document: Document) -> str:
    """What it is recommended for."""
    asked = document.request
    return f"for {asked.use_case}, {asked.context_tokens:,} tokens of context, {preference(asked.prefer)}"


def reading(pick: RecommendationPart) -> str:
    """What the speeds are measured at."""
    speed = pick.speed
    return f"{speed.depth_tokens:,} tokens into a text; prompts about {two_digits(speed.prefill_tokens_per_s)} tok/s"


def rooms(answer: Answer) -> list[Room]:
    """The memories that the pick uses, the one that counts first."""
    pick, limits = answer.pick, answer.candidate.limits
    beside = "Shared memory" if limits.unified else "GPU memory" if len(limits.cards) == 1 else "GPU memories"
    found = []
    if pick.memory.device_bytes:
        found.append(Room(beside, by_part(pick.held.device), limits.device))
    if pick.memory.host_bytes:
        found.append(Room("Main memory", by_part(pick.held.host), limits.host))
    return found


def by_part(held: MemoryParts) -> tuple[tuple[str, int], ...]:
    """The parts that are there, named as everywhere."""
    sizes = {
        "weights": held.weights_bytes,
        "KV cache": held.kv_cache_bytes,
        "compute": held.compute_bytes,
        "projector": held.projector_bytes,
        "drafter": held.drafter_bytes,
    }
    return tuple((name, size) for name, size in sizes.items() if size)


def of_total(used: int, total: int) -> str:
    """`14.1 of 22.5 GiB`."""
    first, second = in_words(used), in_words(total)
    unit = second.rpartition(" ")[2]
    return f"{first.removesuffix(f' {unit}')} of {second}"


# ---- What goes on


def silence(seconds: float, what: str = "nothing has come", key: str = "Esc stops it") -> str:
    """What is said where a server keeps still; empty until that is worth a word."""
    return f"{what} for {seconds:.0f} s; {key}" if seconds > SILENT_S else ""
