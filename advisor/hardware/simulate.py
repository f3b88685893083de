"""A machine that is not this one: described in a few words (`"RTX 4090, 64GB"`), or read from `advisor detect --json`.

Sizes of memory are as sold: `64GB` of RAM is 64 GiB. What the words leave open is assumed, and `basis` says so.
"""

from __future__ import annotations

import re
import sys
import textwrap
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from advisor.errors import UsageError, either
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.names import inside, plain
from advisor.knowledge.profile import Bandwidth, Bytes, Device
from advisor.machine import Basis, Cpu, Gpu, Machine, Memory
from advisor.memory.footprint import GIB

EXAMPLE = 'write it like "RTX 4090, 64GB", "2x RTX 3090, 128GB", "M3 Max 64GB", "cpu, 16GB" or "GPU 24GB, 64GB"'
COMMAND = 'advisor recommend --simulate "RTX 4090, 64GB"'

MAX_GPUS = 16
LARGEST_MEMORY = 16 << 40
ROUNDING = 0.005
LARGEST_FILE = 1 << 20

PHONE_SHARE = 0.5
"""Of a phone's memory the system and what it keeps alive hold about half; iOS ends an app that takes more."""

ECC_PART = 16
"""One part in so many of a card's memory goes to error correction, where it has no chips of their own for that."""

ASSUMED_CORES = 8
ASSUMED_BANDWIDTH = 50_000_000_000
"""Two channels of DDR4-3200: what a desktop has at least."""

SIZE = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(?P<unit>[MGT]i?B|G)", re.IGNORECASE | re.ASCII)
COUNT = re.compile(r"(?P<count>[0-9]{1,4})\s*[xX*]\s*(?P<rest>\S.*)", re.ASCII)
UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


UNNAMED = frozenset({"gpu", "card"})
UNKNOWN = Device(
    id="",
    name="a GPU",
    vendor="other",
    kind="gpu",
    memory=(),
    bandwidth=Bandwidth(0),
    compute_tflops=1.0,
    source="nothing is known of it but its memory",
)
"""For cards that the catalogue lacks: `GPU 24GB`. Its bandwidth is assumed, unless it is told."""


class Part(msgspec.Struct, frozen=True):
    """One named device of a SPEC."""

    device: Device
    count: int
    memory: int | None


def parse(spec: str, catalog: Catalog) -> Machine:
    """The machine that SPEC describes.

    Raises:
        UsageError: an unknown device (naming the nearest), a size that it is not sold with, or a contradiction.
    """
    words = [word.strip() for word in spec.split(",")]
    if not spec.strip() or not all(words):
        raise wrong(f"--simulate {short(spec)}: an empty entry", EXAMPLE)
    sizes = [word for word in words if SIZE.fullmatch(word)]
    if len(sizes) > 1:
        raise wrong(f"--simulate: {len(sizes)} sizes of system memory ({', '.join(sizes)})", EXAMPLE)
    memory = system_memory(sizes[0]) if sizes else None
    named = [word for word in words if word not in sizes]
    devices = [word for word in named if word.lower() != "cpu"]
    if devices and len(devices) < len(named):
        raise wrong(f"--simulate {short(spec)}: 'cpu' means no GPU, so it cannot stand beside a device", EXAMPLE)
    return assemble(tuple(part(word, catalog) for word in devices), memory)


def assemble(parts: tuple[Part, ...], memory: int | None) -> Machine:
    """One machine from its devices: a system-on-chip, a processor, or discrete GPUs in a desktop."""
    whole = [item for item in parts if item.device.kind != "gpu"]
    if not whole:
        return desktop(parts, memory)
    if len(parts) > 1 or whole[0].count > 1:
        name = whole[0].device.name
        raise wrong(f"--simulate: {name} is a whole machine and cannot be combined with other devices", EXAMPLE)
    return system_on_chip(whole[0], memory)


def part(word: str, catalog: Catalog) -> Part:
    """One `[Nx ]DEVICE[ SIZE]`."""
    count, name = 1, word
    if match := COUNT.fullmatch(word):
        count, name = int(match["count"]), match["rest"]
    if not 1 <= count <= MAX_GPUS:
        raise wrong(f"{short(word)}: {count} devices; 1 to {MAX_GPUS} are possible", EXAMPLE)
    match = re.fullmatch(rf"(?P<name>.*\S)\s+(?P<size>{SIZE.pattern})", name, re.IGNORECASE | re.ASCII)
    if match is None:
        return Part(called(name, catalog), count, None)
    if match["name"].lower() in UNNAMED:
        size = parse_size(match["size"])
        return Part(msgspec.structs.replace(UNKNOWN, memory=(Bytes(size),)), count, size)
    # The whole name first: some devices are told apart by their memory (`RTX 3080 12GB`).
    device = catalog.find_device(name) or called(match["name"], catalog)
    return Part(device, count, sold_size(device, parse_size(match["size"])))


def called(name: str, catalog: Catalog) -> Device:
    """The device of that name. The nearest are the one that it contains (`MacBook Pro M3 Max`), and those alike without
    vendor words, which make all names alike."""
    found = catalog.find_device(name)
    if found is not None:
        return found
    known = {plain(each): device.name for device in catalog.devices.values() for each in (device.id, device.name)}
    alike = [known[match] for match in get_close_matches(plain(name), known, n=4, cutoff=0.5)]
    contained = inside(name, catalog.devices.values())
    near = tuple(dict.fromkeys([contained.name] if contained else alike))
    hint = f"did you mean {either(near)}?" if near else EXAMPLE
    raise wrong(f"unknown device {short(name)}", hint)


def sold_size(device: Device, size: int) -> int:
    """The memory that this device is sold with, whether its maker counts in GB or GiB."""
    for known in device.memory:
        if any(abs(known - meant) <= ROUNDING * known for meant in (size, size * 10**9 // GIB)):
            return int(known)
    if not device.memory:
        return size
    sizes = ", ".join(as_sold(known) for known in device.memory)
    beside = device.kind == "gpu" and size > device.memory[-1]
    example = f"{device.name}, {as_sold(size)}" if beside else f"{device.name} {as_sold(device.memory[-1])}"
    raise UsageError(
        f"{device.name} is not sold with {as_sold(size)}",
        hint=f"it has {sizes}; the machine's own memory comes after a comma" if beside else f"it has {sizes}",
        command=f'advisor recommend --simulate "{example}"',
    )


def desktop(parts: tuple[Part, ...], memory: int | None) -> Machine:
    """A PC with discrete GPUs, or with none."""
    gpus = [gpu_of(item, item.memory or int(item.device.memory[0])) for item in parts for _ in range(item.count)]
    total = memory or assumed_memory(sum(gpu.memory_total_bytes for gpu in gpus))
    basis: dict[str, Basis] = {
        "cpu": "assumed",
        "memory.total_bytes": "simulated" if memory else "assumed",
        "memory.bandwidth_bytes_per_s": "assumed",
    }
    for index in range(len(gpus)):
        basis[f"gpus.{index}.memory_total_bytes"] = "catalogue"
        basis[f"gpus.{index}.bandwidth_bytes_per_s"] = "catalogue" if gpus[index].device else "assumed"
    return Machine(
        os="linux",
        arch="x86_64",
        simulated=True,
        cpu=Cpu(
            name=f"{ASSUMED_CORES}-core processor with AVX2 (assumed)",
            cores=ASSUMED_CORES,
            threads=2 * ASSUMED_CORES,
            features=("avx2",),
        ),
        memory=Memory(total_bytes=total, available_bytes=total, bandwidth_bytes_per_s=ASSUMED_BANDWIDTH),
        gpus=tuple(msgspec.structs.replace(gpu, index=index) for index, gpu in enumerate(gpus)),
        basis=basis,
    )


def assumed_memory(graphics: int) -> int:
    """What is usual beside so much graphics memory: twice as much, 16 GiB at least; 16 GiB without a GPU."""
    size = 16 * GIB
    while size < 2 * graphics:
        size *= 2
    return size


def system_on_chip(item: Part, memory: int | None) -> Machine:
    """A SoC whose GPU shares the system's memory, or a board that has only its processor."""
    device = item.device
    if memory and item.memory and sold_size(device, memory) != item.memory:
        raise wrong(f"--simulate: {device.name} has one memory, but two sizes are given", EXAMPLE)
    given = item.memory or (sold_size(device, memory) if memory else None)
    total = given or int(device.memory[0] if device.memory else 16 * GIB)
    apple = device.vendor == "apple"
    cores = device.cores or ASSUMED_CORES
    arm = device.vendor in ("apple", "nvidia", "other")
    shared = device.kind == "soc"
    basis: dict[str, Basis] = {
        "cpu": "catalogue" if device.cores else "assumed",
        "memory.total_bytes": "simulated" if given else "catalogue" if len(device.memory) == 1 else "assumed",
        "memory.bandwidth_bytes_per_s": "catalogue",
    }
    phone = device.form == "phone"
    system = ("ios" if phone else "macos") if apple else ("android" if phone else "linux")
    return Machine(
        os=system,
        arch="arm64" if arm else "x86_64",
        simulated=True,
        cpu=Cpu(
            name=device.name,
            vendor=device.vendor,
            cores=cores,
            threads=device.threads or cores,
            features=("neon",) if arm else ("avx2",),
        ),
        memory=Memory(
            total_bytes=total,
            available_bytes=total,
            limit_bytes=int(total * PHONE_SHARE) if phone else None,
            limit_source="what a phone leaves to one app" if phone else None,
            bandwidth_bytes_per_s=int(device.bandwidth),
            unified=shared,
        ),
        gpus=(gpu_of(item, total, integrated=True),) if shared else (),
        basis=basis,
    )


def gpu_of(item: Part, memory: int, *, integrated: bool = False) -> Gpu:
    """The device as its driver would show it, with all of its memory free."""
    memory -= memory // ECC_PART if item.device.ecc else 0
    return Gpu(
        name=item.device.name,
        vendor=item.device.vendor,
        index=0,
        memory_total_bytes=memory,
        memory_free_bytes=memory,
        bandwidth_bytes_per_s=int(item.device.bandwidth) or None,
        integrated=integrated,
        device=item.device.id or None,
        cores=item.device.gpu_cores,
    )


def assumptions(machine: Machine) -> tuple[str, ...]:
    """What a simulated machine leaves open, in words."""
    if not machine.simulated:
        return ()
    said = []
    if machine.basis.get("memory.total_bytes") == "assumed":
        said.append(f"system memory is assumed to be {as_sold(machine.memory.total_bytes)}")
    if machine.basis.get("cpu") == "assumed":
        said.append(f"the processor is assumed to have {machine.cpu.cores} cores and two channels of memory")
    return tuple(said)


def system_memory(text: str) -> int:
    size = parse_size(text)
    if not GIB // 2 <= size <= LARGEST_MEMORY:
        raise wrong(f"{text} is no plausible size of system memory", EXAMPLE)
    return size


def parse_size(text: str) -> int:
    """A size as memory is sold: `64GB`, `64 GiB` and `64G` are all 64 x 2^30 bytes."""
    match = SIZE.fullmatch(text.strip())
    if match is None or float(match["number"]) <= 0:
        raise wrong(f"{short(text)} is not a size of memory", "Write it like 64GB.")
    return int(float(match["number"]) * UNITS[match["unit"][0].upper()])


def as_sold(size: int) -> str:
    """A size of memory as shops write it; some makers count in 10^9."""
    if size % 10**9 == 0:
        return f"{size // 10**9}GB"
    return f"{size / GIB:.1f}".removesuffix(".0") + "GB"


def wrong(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, command=COMMAND)


def short(text: str) -> str:
    return repr(textwrap.shorten(text, 40, placeholder="...") if text.strip() else text[:40])


# ---- A file


def read(path: Path) -> Machine:
    """The machine in a file that `advisor detect --json` wrote, as it was then: its free memory and its backends count.

    Raises:
        UsageError: naming the file, and the key where one is to blame.
    """
    tree = load_json(path)
    record = tree.get("machine", tree) if isinstance(tree, dict) else tree
    if not isinstance(record, dict):
        raise bad_file(path, "the top level must be an object")
    envelope = {"schema", "advisor_version", "generated_at"}
    fields = {key: value for key, value in record.items() if key not in envelope}
    try:
        machine = msgspec.convert(fields, Machine)
    except msgspec.ValidationError as error:
        raise bad_file(path, located(str(error))) from error
    check(machine, path)
    return machine


def load_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise bad_file(path, getattr(error, "strerror", None) or str(error)) from error
    if len(data) > LARGEST_FILE:
        raise bad_file(path, "larger than 1 MiB, so not a machine")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_file(path, f"not valid JSON: {error}") from error


def check(machine: Machine, path: Path) -> None:
    """Figures that have the right type but cannot be: they would only surface as a nonsensical pick."""
    memory = machine.memory
    figures = {
        "memory.total_bytes": (memory.total_bytes, 1),
        "memory.available_bytes": (memory.available_bytes, 0),
        "memory.limit_bytes": (memory.limit_bytes, 1),
        "memory.bandwidth_bytes_per_s": (memory.bandwidth_bytes_per_s, 1),
        "cpu.cores": (machine.cpu.cores, 1),
        "cpu.threads": (machine.cpu.threads, 1),
    }
    for index, gpu in enumerate(machine.gpus):
        figures[f"gpus[{index}].memory_total_bytes"] = (gpu.memory_total_bytes, 0)
        figures[f"gpus[{index}].memory_free_bytes"] = (gpu.memory_free_bytes, 0)
        figures[f"gpus[{index}].bandwidth_bytes_per_s"] = (gpu.bandwidth_bytes_per_s, 1)
    for key, (value, least) in figures.items():
        if value is not None and not least <= value < sys.maxsize >> 8:
            raise bad_file(path, f"{key}: {value} is not possible")
    if len(machine.gpus) > MAX_GPUS:
        raise bad_file(path, f"gpus: {len(machine.gpus)} of them; at most {MAX_GPUS} are possible")


def located(message: str) -> str:
    """msgspec's message with the key in front: "Expected `int`, got `str` - at `$.cpu.cores`"."""
    problem, _, key = message.partition(" - at `$.")
    return f"{key.rstrip('`')}: {problem}" if key else problem


def bad_file(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"{path}: {problem}",
        hint="the file must hold what `advisor detect --json` prints",
        command="advisor detect --json > machine.json",
    )
