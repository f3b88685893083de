"""An estimate for people: where it goes and how fast it is, the memory part by part, and what may be used."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.memory.budgets import in_words
from advisor.pages import terminal
from advisor.pages.estimate_document import EstimateDocument
from advisor.pages.terminal import BAR_WIDTH, LABEL_WIDTH, WIDEST, Slice, memory_text
from advisor.units import format_file_size

GLYPHS = {
    "weights": ("█", "#", "blue"),
    "KV cache": ("▓", "=", "cyan"),
    "compute": ("▒", "+", "magenta"),
    "projector": ("▚", "%", "yellow"),
    "drafter": ("▞", "*", "green"),
    "free": ("·", ".", "dim"),
}


def show(document: EstimateDocument, console: Console | None = None) -> None:
    """Print an estimate."""
    out = console or Console(
        width=min(shutil.get_terminal_size((80, 24)).columns, WIDEST), highlight=False, markup=False, emoji=False
    )
    out.print()
    out.print(headline(document))
    out.print(Text(f"{request_line(document)}\n{terminal.machine_line(document.machine)}\n", style="dim"))
    terminal.print_trimmed(out, facts(document, unicode=out.encoding.lower().startswith("utf")))
    out.print()
    terminal.print_trimmed(out, parts(document))
    out.print()
    terminal.print_trimmed(out, reckoning(document))
    out.print()


def headline(document: EstimateDocument) -> Text:
    model = document.model
    drafter = "with a drafter" if document.drafter.enabled else "without a drafter"
    engine = "the native engine" if document.request.backend == "native" else document.request.backend
    return Text.assemble((model.name, "bold"), f"  {model.quant}, {drafter}, on {engine}")


def request_line(document: EstimateDocument) -> str:
    asked = document.request
    return f"{asked.context_tokens:,} tokens of context, KV cache in {asked.kv_type}, micro-batch {asked.micro_batch:,}"


def facts(document: EstimateDocument, *, unicode: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.add_column(width=LABEL_WIDTH, style="dim")
    table.add_column(overflow="fold")
    table.add_row("Fits", where(document))
    if document.speed:
        speed = document.speed
        text = Text.assemble((f"{terminal.rate(speed.decode_tokens_per_s)} tok/s", "bold"))
        text.append(f", between {terminal.rate(speed.low)} and {terminal.rate(speed.high)}")
        if document.drafter.enabled:
            text.append(f"; {terminal.rate(speed.plain_tokens_per_s)} without the drafter")
        table.add_row("Speed", text)
        prompt = f"prompts about {terminal.two_digits(speed.prefill_tokens_per_s)} tok/s"
        table.add_row("", f"{terminal.speed_source(speed)} {speed.depth_tokens:,} tokens into a text; {prompt}")
    slices = segments(document)
    table.add_row("Memory", memory_text(document.memory, document.placement.mode))
    table.add_row("", terminal.bar(slices, BAR_WIDTH, unicode=unicode))
    table.add_row("", terminal.legend(slices, unicode=unicode))
    table.add_row(
        "File", f"{format_file_size(document.model.file_bytes)}, {document.model.file} ({document.model.repo})"
    )
    table.add_row("Drafter", document.drafter.reason)
    for index, line in enumerate(document.warnings):
        table.add_row("" if index else "Note", line)
    return table


def where(document: EstimateDocument) -> Text:
    placed = document.placement
    if not document.fits:
        return Text("no", style="bold red")
    told = {
        "gpu": "all on the GPU" if not document.machine.memory.unified else "in the memory that GPU and system share",
        "experts-on-cpu": f"on the GPU, but the experts of {placed.cpu_expert_layers} of {placed.layers} layers",
        "split": f"{placed.gpu_layers} of {placed.layers} layers on the GPU, the rest on the processor",
        "cpu": "on the processor",
    }[placed.mode]
    return Text.assemble(("yes", "bold"), f", {told}")


def segments(document: EstimateDocument) -> list[Slice]:
    """The bar: all that is held, on whatever device, and what is free where it counts."""
    memory = document.memory
    sizes = {
        "weights": memory.weights_bytes,
        "KV cache": memory.kv_cache_bytes,
        "compute": memory.compute_bytes,
        "projector": memory.projector_bytes,
        "drafter": memory.drafter_bytes,
        "free": max(0, memory.headroom_bytes),
    }
    return [
        Slice(name=name, size=size, glyph=GLYPHS[name][0], plain=GLYPHS[name][1], style=GLYPHS[name][2])
        for name, size in sizes.items()
        if size or name == "free"
    ]


def parts(document: EstimateDocument) -> Table:
    """Every kind of buffer, and what the kernel can take back."""
    memory = document.memory
    table = small_table("What it holds", "bytes", "")
    rows = [
        ("weights", memory.weights_bytes, ""),
        ("KV cache, global layers", memory.kv_global_bytes, "grows with the context"),
        ("KV cache, sliding layers", memory.kv_sliding_bytes, "fixed"),
        ("compute buffers", memory.compute_bytes - memory.output_bytes, ""),
        ("outputs", memory.output_bytes, ""),
        ("projector", memory.projector_bytes, "without its own scratch"),
        ("drafter", memory.drafter_bytes, "weights and buffers"),
        (
            "total",
            memory.total_bytes,
            on_devices(memory.device_bytes, memory.host_bytes),
        ),
        ("of it mapped from the file", memory.mapped_bytes, "the kernel can drop it and read it again"),
        ("beside it, repacked", memory.repacked_bytes, "a second layout for this processor, cannot be dropped"),
    ]
    for name, size, note in rows:
        if size or name == "total":
            table.add_row(name, in_words(size), note)
    return table


def on_devices(device: int, host: int) -> str:
    held = ((device, "GPU"), (host, "main memory"))
    return ", ".join(f"{in_words(size)} {name}" for size, name in held if size)


def reckoning(document: EstimateDocument) -> Table:
    """What may be used, item by item."""
    table = small_table("What may be used", "bytes", "source")
    device, left = "", 0
    for item in document.budget:
        if device not in ("", item.device):
            table.add_row(f"{device}: budget", in_words(left), "")
            left = 0
        device, left = item.device, left + item.bytes
        sign = "- " if item.bytes < 0 else ""
        table.add_row(f"{item.device}: {item.what}", sign + in_words(abs(item.bytes)), item.source)
    if device:
        table.add_row(f"{device}: budget", in_words(left), "")
    return table


def small_table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    first, second, third = columns
    table.add_column(first, no_wrap=True)
    table.add_column(second, justify="right", no_wrap=True)
    table.add_column(third)
    return table
