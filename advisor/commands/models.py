"""`advisor models`: the catalogue, as a table, one model in full, or JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from advisor.knowledge.catalog import Catalog, as_data, load
from advisor.knowledge.profile import Drafter, ModelProfile, Quant
from advisor.units import format_file_size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDEST = 80
SCHEMA = "advisor.models/1"
BENCHMARKS = {
    "mmlu_pro": "MMLU-Pro",
    "gpqa_diamond": "GPQA Diamond",
    "aime_2026": "AIME 2026",
    "bbeh": "BBEH",
    "hle": "HLE",
    "hle_search": "HLE with search",
    "livecodebench_v6": "LiveCodeBench v6",
    "codeforces_elo": "Codeforces Elo",
    "tau2": "Tau2 average",
    "mmmlu": "MMMLU",
    "mmmu_pro": "MMMU-Pro",
    "math_vision": "MATH-Vision",
    "omnidocbench": "OmniDocBench 1.5 (lower is better)",
    "medxpertqa_mm": "MedXPertQA-MM",
    "covost": "CoVoST",
    "fleurs": "FLEURS (lower is better)",
    "mrcr_128k": "MRCR v2 8-needle 128K",
    "arena_text_elo": "Arena text Elo",
}
"""How the benchmarks are called where people read them; one that is missing here is shown by its key."""


@click.command(
    epilog="\b\nExamples:\n  advisor models\n  advisor models 26b\n  advisor models 26b --json | jq '.models[0].quants'"
)
@click.argument("model", required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document with all that is known, sources included."
)
def command(model: str | None, *, as_json: bool) -> None:
    """Show the models that advisor knows, or everything about MODEL: files, drafter, scores, sources."""
    catalog = load()
    chosen = [catalog.model(model)] if model else list(catalog.models.values())
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "models": [as_data(profile) for profile in chosen]}))
    elif model:
        show_model(console(), chosen[0])
    else:
        show_catalog(console(), catalog)


def console() -> Console:
    """A terminal of at most 80 columns; no markup and no colour of its own guessing."""
    from rich.console import Console  # noqa: PLC0415 - 30 ms that --json does not need

    width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    return Console(width=width, markup=False, highlight=False, emoji=False)


def show_catalog(out: Console, catalog: Catalog) -> None:
    """All models, one a line, and how to see more."""
    rows = [_catalog_row(profile) for profile in catalog.models.values()]
    out.print(
        _table({"Model": "", "Parameters": "fold", "Context": "", "Input": "fold", "Size": ">", "MMLU-Pro": ">"}, rows)
    )
    out.print()
    for profile in catalog.models.values():
        out.print(_pair(profile.id, profile.summary))
    out.print()
    out.print("Size: the file trained for 4 bits (QAT). MMLU-Pro: questions solved, %.")
    out.print(_pair("All of one", "advisor models 26b"))
    out.print(_pair("What suits here", "advisor recommend"))


def _catalog_row(profile: ModelProfile) -> list[str]:
    size = next((quant.bytes for quant in profile.quants if quant.qat), profile.quants[0].bytes)
    score = profile.benchmarks.get("mmlu_pro")
    return [
        profile.id,
        parameters(profile),
        context(profile),
        ", ".join(kind for kind in profile.modalities if kind != "video"),
        format_file_size(size),
        f"{score:.1f}" if score is not None else "",
    ]


def parameters(profile: ModelProfile) -> str:
    """Total parameters in billions, and how many experts work on a token where there are experts."""
    shape = profile.architecture
    experts = f", {shape.experts_used} of {shape.experts} experts" if shape.experts else ""
    return f"{shape.parameters / 1e9:.1f}B{experts}"


def context(profile: ModelProfile) -> str:
    """The longest context in units of 1,024 tokens."""
    return f"{profile.context_tokens // 1024}K"


def show_model(out: Console, profile: ModelProfile) -> None:
    """Everything about one model."""
    shape = profile.architecture
    out.print(f"{profile.name} ({profile.id})", style="bold")
    out.print(profile.summary)
    out.print()
    facts = {
        "Repository": profile.repo,
        "Licence": f"{profile.licence}, released {profile.released}",
        "Parameters": parameters(profile),
        "Context": f"{context(profile)}; {shape.global_layers} of {shape.layers} layers see all of it, "
        f"the others the last {shape.window} tokens",
        "Input": ", ".join(profile.modalities),
        "Sampling": f"temperature {profile.sampling.temperature:g}, top-p {profile.sampling.top_p:g}, "
        f"top-k {profile.sampling.top_k}",
    }
    for label, text in facts.items():
        out.print(_pair(label, text))
    _section(out, "Files (the name is what --quant takes)")
    columns = {"Name": "", "Size": ">", "Kept": ">", "File": "fold"}
    out.print(_table(columns, map(_quant_row, profile.quants)))
    out.print("Kept: share of the quality of BF16, estimated; see the sources.")
    _section(out, "Drafter")
    for label, text in _drafter(profile.drafter).items():
        out.print(_pair(label, text))
    out.print(_pair("Projector", f"{profile.projector.file}, {format_file_size(profile.projector.bytes)}"))
    _section(out, "Scores")
    for name, score in profile.benchmarks.items():
        out.print(_pair(BENCHMARKS.get(name, name), f"{score:g}", 36))
    _section(out, "Sources")
    for label, text in _sources(profile).items():
        out.print(_pair(label, text))


def _quant_row(quant: Quant) -> list[str]:
    return [quant.name, format_file_size(quant.bytes), f"{quant.quality:.1%}", quant.file]


def _drafter(drafter: Drafter) -> Mapping[str, str]:
    accepted = ", ".join(f"{kind} {share:.0%}" for kind, share in drafter.acceptance.items())
    files = [f"{file.file} of {file.repo}, {format_file_size(file.bytes)}" for file in drafter.files]
    return {
        "Size": f"{drafter.parameters / 1e6:.0f}M parameters, {drafter.layers} layers",
        "Draft": f"{drafter.draft_tokens} tokens to begin with",
        "Accepted": f"first token: {accepted}",
        **{f"File {file.name}": text for file, text in zip(drafter.files, files, strict=True)},
    }


def _sources(profile: ModelProfile) -> Mapping[str, str]:
    return {
        "Shape": profile.architecture.source,
        "Scores": profile.benchmarks_source,
        "Sampling": profile.sampling.source,
        "Drafter": profile.drafter.source,
        "Projector": profile.projector.source,
        **{quant.name: f"{quant.repo}. {quant.source}. Kept: {quant.quality_source}" for quant in profile.quants},
        **{f"File {file.name}": file.source for file in profile.drafter.files},
    }


def _section(out: Console, title: str) -> None:
    out.print()
    out.print(title, style="bold")


def _table(columns: Mapping[str, str], rows: Iterable[list[str]]) -> RenderableType:
    """A table without frame. Columns by heading: `>` for numbers, `fold` for what may take several lines."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading, form in columns.items():
        table.add_column(heading, justify="right" if form == ">" else "left", no_wrap=form != "fold", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _pair(label: str, text: str, width: int = 15) -> RenderableType:
    """A label and a text that wraps beside it."""
    from rich.table import Table  # noqa: PLC0415

    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(min_width=width, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(label, text)
    return table
