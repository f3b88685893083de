"""What may be filled, per device: the memory that is there, less what others hold, limits and a margin, item by item.

The items of a device add up to its budget, and each says where it is from, so that nobody has to believe the sum.
"""

from __future__ import annotations

from advisor.machine import Basis, Gpu, Machine, Record
from advisor.memory.footprint import GIB, MIB

GPU_MARGIN = GIB
"""Left free on each card: the driver's context and what runtimes allocate late. llama.cpp's own fit leaves 1024
MiB."""

DESKTOP_SHARE = GIB // 2
"""What a desktop holds of a card that nobody measured (simulated machines)."""

HOST_RESERVE = 3 * GIB
"""Main memory for the system and the user's other programs; a quarter of it where there is less than 12 GiB."""

CONTAINER_RESERVE = GIB // 2
"""Inside a memory limit there is no operating system to feed."""

SMALL_MAC = 36 * GIB
"""macOS lets the GPU wire about 2/3 of memory below this, about 3/4 from there on."""

HOST = "main memory"


class Item(Record, frozen=True, kw_only=True):
    """One line of a budget's reckoning. `bytes`: what is there, or (negative) what is not to be used.

    `source`: where the figure is from, in words; `basis`: the same as a kind.
    """

    device: str
    what: str
    bytes: int
    source: str
    basis: Basis


class Budget(Record, frozen=True, kw_only=True):
    """Bytes that may be used. `cards`: per-card budgets in bytes; empty without a GPU. `notes`: the deductions in
    words; `items`: all of them, with their sources."""

    cards: tuple[int, ...] = ()
    host: int
    unified: bool = False
    notes: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()

    @property
    def device(self) -> int:
        return sum(self.cards)


class Reckoning:
    """Adds up one device's items; a deduction never takes more than is left."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.items: list[Item] = []
        self.left = 0

    def there(self, amount: int, what: str, source: str, basis: Basis) -> None:
        self._add(amount, what, source, basis)

    def less(self, amount: int, what: str, source: str, basis: Basis) -> None:
        amount = min(amount, self.left)
        if amount > 0:
            self._add(-amount, what, source, basis)

    def _add(self, amount: int, what: str, source: str, basis: Basis) -> None:
        self.items.append(Item(device=self.device, what=what, bytes=amount, source=source, basis=basis))
        self.left += amount


def budget(machine: Machine, *, gpu: bool = True, reserve: int | None = None) -> Budget:
    """What may be filled on this machine.

    Args:
        gpu: false as a backend sees it that runs on the processor only.
        reserve: bytes to leave free on each device beyond what others hold, in place of the usual margins.
    """
    host, notes = host_budget(machine, reserve)
    cards = usable_gpus(machine) if gpu else ()
    if not cards:
        return Budget(host=host.left, notes=notes, items=tuple(host.items))
    if shares_memory(machine, cards):
        shared, note = unified_budget(machine, cards[0], host, reserve)
        return Budget(cards=(shared.left,), host=host.left, unified=True, notes=(note,), items=tuple(shared.items))
    found = [card_budget(card, simulated=machine.simulated, reserve=reserve) for card in cards]
    margin = GPU_MARGIN if reserve is None else reserve
    desktop = ", 0.5 GiB for a desktop" if machine.simulated else ""
    return Budget(
        cards=tuple(card.left for card in found),
        host=host.left,
        notes=(f"{in_words(margin)} of each card is left free{desktop}", *notes),
        items=tuple(item for one in (*found, host) for item in one.items),
    )


def usable_gpus(machine: Machine) -> tuple[Gpu, ...]:
    """Discrete cards where there are any: an integrated GPU beside them only slows a split, and one that is not
    known to share the system's memory brings none of its own."""
    known = tuple(gpu for gpu in machine.gpus if gpu.memory_total_bytes > GPU_MARGIN)
    discrete = tuple(gpu for gpu in known if not gpu.integrated)
    if machine.memory.unified and len(discrete) in (0, len(known)):
        return known
    return discrete


def shares_memory(machine: Machine, cards: tuple[Gpu, ...]) -> bool:
    """Whether these GPUs work in the system's memory; a card beside an integrated GPU does not."""
    return machine.memory.unified and (len(cards) == len(machine.gpus) or all(card.integrated for card in cards))


def host_budget(machine: Machine, reserve: int | None = None) -> tuple[Reckoning, tuple[str, ...]]:
    """Main memory less a margin; the tighter of a container's limit and what is free now wins.

    What is held already counts towards the usual margin, which is the system's; a `reserve` comes on top.
    """
    memory = machine.memory
    sums = Reckoning(HOST)
    sums.there(memory.total_bytes, "total", *read_from(machine, "memory.total_bytes"))
    margin = min(HOST_RESERVE, memory.total_bytes // 4)
    notes = [f"{in_words(margin)} of main memory is left to the system"]
    if memory.limit_bytes is not None and memory.limit_bytes - CONTAINER_RESERVE < memory.total_bytes - margin:
        limit, source, margin = memory.limit_bytes, memory.limit_source or "a limit", CONTAINER_RESERVE
        sums.less(memory.total_bytes - limit, "beyond the limit", source, "measured")
        notes = [f"memory is limited to {in_words(limit)} by {source}"]
    held = 0 if machine.simulated else max(0, sums.left - memory.available_bytes)
    sums.less(held, "held by others now", "the system's count of available memory", "measured")
    if reserve is not None:
        sums.less(reserve, "left free", "--reserve", "assumed")
        notes = [f"{in_words(reserve)} is left free, as asked for"]
    elif held < margin:
        sums.less(margin - held, "left to the system", "a margin of this program", "assumed")
    else:
        notes = [f"{in_words(memory.available_bytes)} of main memory is free now"]
    return sums, tuple(notes)


def card_budget(card: Gpu, *, simulated: bool, reserve: int | None = None) -> Reckoning:
    """A discrete card's memory less what is held and a margin."""
    sums = Reckoning(f"GPU {card.index}")
    basis: Basis = "catalogue" if simulated else "measured"
    sums.there(card.memory_total_bytes, "total", "the device catalogue" if simulated else "the driver", basis)
    held = card.memory_total_bytes - card.memory_free_bytes
    sums.less(held, "held by others now", "the driver", "measured")
    if simulated:
        sums.less(DESKTOP_SHARE, "for a desktop", "an assumption about described machines", "assumed")
    if reserve is not None:
        sums.less(reserve, "left free", "--reserve", "assumed")
    else:
        sums.less(GPU_MARGIN, "left free", "as llama.cpp's own fit leaves it", "assumed")
    return sums


def unified_budget(machine: Machine, gpu: Gpu, host: Reckoning, reserve: int | None = None) -> tuple[Reckoning, str]:
    """What a GPU may take of the memory that it shares with the system: its own limit, or what the host can spare."""
    limit, note, basis = gpu_limit(machine, gpu)
    sums = Reckoning("shared memory")
    sums.there(machine.memory.total_bytes, "total", *read_from(machine, "memory.total_bytes"))
    sums.less(machine.memory.total_bytes - limit, "not for the GPU", note, basis)
    sums.less(sums.left - gpu.memory_free_bytes, "held by others now", "the driver", "measured")
    if host.left < sums.left:
        source = "--reserve" if reserve is not None else "what main memory can spare"
        sums.less(sums.left - host.left, "left to the system", source, "assumed" if machine.simulated else "measured")
        return sums, f"{in_words(host.left)} of the shared memory can be used"
    return sums, note


def gpu_limit(machine: Machine, gpu: Gpu) -> tuple[int, str, Basis]:
    """The most that a GPU can use of the shared memory, and why."""
    total = machine.memory.total_bytes
    if not machine.simulated and gpu.memory_total_bytes < total:
        kinds = {"apple": "macOS's wired limit", "amd": "the carve-out or GTT"}
        kind = f" ({kinds[gpu.vendor]})" if gpu.vendor in kinds else ""
        return gpu.memory_total_bytes, f"the limit that the driver reports for the GPU{kind}", "measured"
    if gpu.vendor == "apple":
        share, name = (2 / 3, "2/3") if total < SMALL_MAC else (3 / 4, "3/4")
        return int(total * share), f"macOS lets the GPU use about {name} of memory", "formula"
    if gpu.vendor == "nvidia":
        return int(total * 0.9), "a tenth of the shared memory is left to the system", "assumed"
    note = "the GPU can use about 3/4 of the shared memory where the driver is set so"
    return int(total * 3 / 4), note, "assumed"


def read_from(machine: Machine, field: str) -> tuple[str, Basis]:
    """Where a field of the machine is from, in words and as a kind."""
    basis = machine.basis.get(field, "simulated" if machine.simulated else "measured")
    words = {"measured": "the system", "simulated": "as described", "assumed": "assumed"}
    return words.get(basis, "the device catalogue"), basis


def in_words(amount: int) -> str:
    """Bytes for people: GiB with one decimal, MiB below one."""
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / MIB:.0f} MiB"
