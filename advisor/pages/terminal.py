"""The recommendation for people: one pick with its memory and speed, why, what else would run, and what to type.

Readable at 80 columns, without colour and in a pipe: each part of the memory bar has a character of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from advisor.hardware import phones
from advisor.machine import Record
from advisor.memory.placement import in_words
from advisor.pages.parts import CostPart, MachinePart, MemoryUse, SpeedPart
from advisor.pages.report import Document, RecommendationPart, RejectedPart
from advisor.services.service import Service
from advisor.units import format_file_size

WIDEST = 96
LABEL_WIDTH = 9
MOST_TRADES = 2
"""The page stays on one screen; the document has all of them."""
BAR_WIDTH = 64
GIB = 1 << 30


class Slice(Record, frozen=True, kw_only=True):
    """One part of the memory bar. `glyph` and its `plain` stand-in (terminals without UTF-8) tell it without colour."""

    name: str
    size: int
    glyph: str
    plain: str
    style: str


def show(document: Document, console: Console | None = None) -> None:
    """Print a recommendation."""
    out = console or Console(
        width=min(shutil.get_terminal_size((80, 24)).columns, WIDEST), highlight=False, markup=False, emoji=False
    )
    pick = document.recommendations[0]
    others = document.recommendations[1:]
    left_out = list(one_per_model(document.rejected, {entry.model for entry in document.recommendations}))
    out.print()
    out.print(headline(pick))
    out.print(Text(f"{request_line(document)}\n{machine_line(document.machine)}\n", style="dim"))
    print_trimmed(out, facts(pick, document.trades, unicode=out.encoding.lower().startswith("utf")))
    out.print()
    if others:
        print_trimmed(out, runners_up(others))
        out.print()
    if left_out:
        print_trimmed(out, rejections(left_out))
        out.print()
    if document.next_step:
        step = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        step.add_column(style="dim", no_wrap=True)
        step.add_column(overflow="fold")
        step.add_row("Next step", document.next_step.reason)
        print_trimmed(out, step)
        out.print()
    if document.service:
        print_service(out, document.service, command=document.service.backend != pick.backend)
    if document.machine.simulated and document.machine.os in phones.SYSTEMS:
        return  # a note says what to install there
    label = "To run it there" if document.machine.simulated else "To run it"
    # On a line of its own where it would break: it is to be copied.
    label += "  " if len(label) + len(pick.command) + 2 <= out.width else "\n"
    out.print(Text.assemble((label, "dim"), (pick.command, "bold")), soft_wrap=True)
    out.print()


def print_service(out: Console, service: Service, *, command: bool) -> None:
    """Print what to serve many users with; with its command, where that is not the pick's."""
    from advisor.pages import service_page  # noqa: PLC0415 - for use cases of several users

    out.print(service_page.headline(service))
    print_trimmed(out, service_page.reasons(service))
    print_trimmed(out, service_page.loads(service))
    if command:
        out.print(Text(service.command, style="bold"), soft_wrap=True)
    out.print()


def print_trimmed(out: Console, table: Table) -> None:
    """Print a table without the blanks that pad its last column: they only show in pipes and in copied text."""
    for line in out.render_lines(table, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        out.print(Segments([*line, Segment.line()]), end="")


def headline(pick: RecommendationPart) -> Text:
    drafter = "with its drafter" if pick.drafter.enabled else "without a drafter"
    engine = "the native engine" if pick.backend == "native" else pick.backend
    return Text.assemble((pick.name, "bold"), f"  {pick.quant}, {drafter}, on {engine}")


def request_line(document: Document) -> str:
    asked = document.request
    return f"for {asked.use_case}, {asked.context_tokens:,} tokens of context, {preference(asked.prefer)}"


def preference(prefer: str) -> str:
    return {"balanced": "quality and speed in balance"}.get(prefer, f"{prefer} first")


def machine_line(machine: MachinePart) -> str:
    memory = machine.memory.limit_bytes or machine.memory.total_bytes
    parts = [] if machine.memory.unified or machine.gpus else [machine.cpu.name]
    names = [gpu.name for gpu in machine.gpus]
    for name in dict.fromkeys(names):
        size = next(gpu.memory_total_bytes for gpu in machine.gpus if gpu.name == name)
        count = f"{names.count(name)}x " if names.count(name) > 1 else ""
        parts.append(count + name + ("" if machine.memory.unified else f" {short(size)}"))
    shared = "shared memory" if machine.memory.unified else "main memory"
    place = "simulated: " if machine.simulated else "on "
    return place + ", ".join([*parts, f"{short(memory)} {shared}"])


def short(size: int) -> str:
    return in_words(size).replace(".0 ", " ")


def facts(pick: RecommendationPart, trades: tuple[str, ...] = (), *, unicode: bool) -> Table:
    """Speed, memory, why and what to mind: labels left, facts right."""
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", width=LABEL_WIDTH, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Speed", speed_text(pick))
    table.add_row("", Text(speed_details(pick), style="dim"))
    table.add_row()
    parts = segments(pick)
    table.add_row("Memory", memory_text(pick.memory, pick.placement.mode))
    table.add_row("", bar(parts, BAR_WIDTH, unicode=unicode))
    table.add_row("", legend(parts, unicode=unicode))
    table.add_row()
    table.add_row("Files", files_text(pick))
    table.add_row()
    said = (
        ("Why", pick.reasons),
        ("Drafter", (pick.drafter.reason,)),
        ("Trade", trades[:MOST_TRADES]),
        ("Cost", cost_lines(pick.cost)),
        ("Note", pick.warnings),
    )
    for label, lines in said:
        for index, line in enumerate(lines):
            table.add_row("" if index else label, line)
    return table


def cost_lines(cost: CostPart | None) -> tuple[str, ...]:
    """What a million tokens cost here, and the cheapest hosted price beside it."""
    if cost is None:
        return ()
    here = f"{money(cost.per_million_tokens)} {cost.currency} per million tokens of answers, "
    here += f"{money(cost.per_million_prompt_tokens)} of prompts; {cost.assumptions[0]}, one user, always busy"
    hosted = [
        f"{each.provider} asked {money(each.output)} and {money(each.input)} {each.currency} on {each.date}"
        for each in cost.hosted[:1]
    ]
    return (here, *hosted)


def money(amount: float) -> str:
    return f"{amount:.2f}" if amount >= 0.1 else f"{amount:.2g}"  # noqa: PLR2004 - cents, and two digits below


def speed_text(pick: RecommendationPart) -> Text:
    speed = pick.speed
    text = Text.assemble((f"{rate(speed.decode_tokens_per_s)} tok/s", "bold"))
    text.append(f", between {rate(speed.low)} and {rate(speed.high)}")
    if pick.drafter.enabled:
        text.append(f"; {rate(speed.plain_tokens_per_s)} without the drafter")
    return text


def speed_details(pick: RecommendationPart) -> str:
    speed = pick.speed
    prompt = f"prompts about {two_digits(speed.prefill_tokens_per_s)} tok/s"
    return f"{speed_source(speed)} {speed.depth_tokens:,} tokens into a text; {prompt}"


def speed_source(speed: SpeedPart) -> str:
    """`estimated`, or what was measured."""
    if speed.evidence is None:
        return "estimated"
    if speed.evidence.kin == "measured":
        return f"{speed.evidence.reason},"
    return f"estimated ({speed.evidence.reason})"


def files_text(pick: RecommendationPart) -> str:
    drafter = f", drafter {format_file_size(pick.drafter.file_bytes)}" if pick.drafter.file_bytes else ""
    return f"{format_file_size(pick.file_bytes)} from {pick.repo}{drafter}"


def two_digits(value: float) -> str:
    """An estimate with no more digits than it deserves."""
    magnitude = 10 ** max(0, len(str(int(value))) - 2)
    return f"{round(value / magnitude) * magnitude:,}"


def rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004 - two digits are enough for an estimate


def memory_text(memory: MemoryUse, mode: str) -> Text:
    """How full the memory is that counts, and what else is used."""
    used = memory.budget_bytes - memory.headroom_bytes
    where = "main memory" if mode == "cpu" else "GPU memory"
    text = Text.assemble((in_words(used), "bold"), f" of {in_words(memory.budget_bytes)} {where} that may be used")
    if memory.device_bytes and memory.host_bytes:
        text.append(f"; {in_words(memory.host_bytes)} main memory")
    return text


def segments(pick: RecommendationPart) -> list[Slice]:
    """The bar's parts, of the memory that counts: what is elsewhere is not in the bar. Empty parts are left out."""
    memory = pick.memory
    held = pick.held.device if memory.device_bytes else pick.held.host
    parts = [
        Slice(name="weights", size=held.weights_bytes, glyph="█", plain="#", style="blue"),
        Slice(name="KV cache", size=held.kv_cache_bytes, glyph="▓", plain="=", style="cyan"),
        Slice(name="compute", size=held.compute_bytes, glyph="▒", plain="+", style="magenta"),
        Slice(name="projector", size=held.projector_bytes, glyph="▚", plain="%", style="yellow"),
        Slice(name="drafter", size=held.drafter_bytes, glyph="▞", plain="*", style="green"),
        Slice(name="free", size=max(0, memory.headroom_bytes), glyph="·", plain=".", style="dim"),
    ]
    return [part for part in parts if part.size or part.name == "free"]


def bar(parts: list[Slice], width: int, *, unicode: bool) -> Text:
    """Each part in proportion, at least one character wide."""
    text = Text()
    for part, length in zip(parts, lengths([part.size for part in parts], width), strict=True):
        text.append((part.glyph if unicode else part.plain) * length, style=part.style)
    return text


def lengths(sizes: list[int], width: int) -> list[int]:
    """Whole characters for each size, `width` in all; what is there is seen, so rounding is paid by the largest."""
    total = sum(sizes) or 1
    found = [max(1, round(size * width / total)) if size else 0 for size in sizes]
    largest = found.index(max(found))
    found[largest] = max(1, found[largest] + width - sum(found))
    return found


def legend(parts: list[Slice], *, unicode: bool) -> Text:
    """What each character of the bar is; lines break between the parts only."""
    text, used = Text(), 0
    for part in parts:
        said = f" {part.name} {in_words(part.size)}"
        if used and used + 2 + 1 + len(said) > BAR_WIDTH:
            text.append("\n")
            used = 0
        elif used:
            text.append("  ")
            used += 2
        text.append(part.glyph if unicode else part.plain, style=part.style)
        text.append(said)
        used += 1 + len(said)
    return text


def runners_up(others: Iterable[RecommendationPart]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("Would also run", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("file", no_wrap=True)
    table.add_column("tok/s", justify="right", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("quality", justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    for other in others:
        table.add_row(
            other.name.removeprefix("Gemma 4 "),
            ", ".join(other.roles),
            other.quant,
            rate(other.speed.decode_tokens_per_s),
            in_words(other.memory.total_bytes),
            f"{other.quality.score:.0f}",
            {"gpu": "GPU", "cpu": "CPU"}.get(other.placement.mode, "GPU + CPU"),
        )
    return table


def one_per_model(rejected: Iterable[RejectedPart], shown: set[str]) -> Iterator[RejectedPart]:
    """Of each model that has no place above, the file that was nearest to fitting: they come in that order."""
    seen = set(shown)
    for entry in rejected:
        if entry.model not in seen:
            seen.add(entry.model)
            yield entry


def rejections(rejected: Iterable[RejectedPart]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("Left out", no_wrap=True)
    table.add_column("because")
    for entry in rejected:
        table.add_row(entry.model, entry.reason)
    return table
