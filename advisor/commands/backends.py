"""`advisor backends`: what can run models here, what the others need, and whether one keeps to the rules."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from advisor.commands.detect import Line, backend_text, show
from advisor.errors import AdvisorError
from advisor.machine import Availability
from advisor.units import format_file_size
from backends.base import GROUP, Backend, Held, Model, availabilities, load, loaded

if TYPE_CHECKING:
    from backends.conformance import Bench, Result, Verdict

COLORS = {"pass": "green", "fail": "red", "skip": "yellow"}
CODES = {"conforms": 0, "fails": 6, "untried": 4}
"""The exit code for each verdict."""
SAID = {"conforms": "conforms", "fails": "breaks rules", "untried": "could not be tried"}
CONTEXT = 4096
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  advisor backends\n  advisor backends --json\n  advisor backends check native",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: a list of backends.")
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """Show which backends can run models here, and what to do about those that cannot."""
    if context.invoked_subcommand is not None:
        return
    found = list(availabilities())
    if as_json:
        documents = [msgspec.to_builtins(each) | {"held": held(each)} for each in found]
        click.echo(msgspec.json.encode({"schema": "advisor.backends/1", "backends": documents}))
        return
    show([line for backend in found for line in _lines(backend)] or [("none", "no backend is registered")])


def _lines(backend: Availability) -> list[Line]:
    if backend.reads == "checkpoint" and backend.path is None:
        return [(backend.name, f"{backend.why_not}: {backend.hint}")]
    text = backend_text(backend).removeprefix(backend.name).lstrip(": ")
    lines = [(backend.name, text)]
    lines += [("", backend.path)] if backend.path else []
    lines += [("", _held_words(each)) for each in held(backend)]
    return lines + ([("", f"> {backend.hint}")] if backend.hint else [])


def held(backend: Availability) -> tuple[Held, ...]:
    """The models in a backend's own library; none where it cannot be asked."""
    try:
        return load(backend.name).held() if backend.available else ()
    except AdvisorError:
        return ()


def _held_words(model: Held) -> str:
    words = [model.name, model.quant, format_file_size(model.size)]
    words += ["with a drafter"] if model.drafter else []
    return ", ".join([*(word for word in words if word), *(["loaded"] if model.loaded else [])])


@command.command(
    epilog="\b\nExamples:\n  advisor backends check native\n  advisor backends check my_package.backend:Mine --json"
)
@click.argument("name")
@click.option("--model", type=FILE, help="GGUF file to try it with.  [default: the embedded pair]")
@click.option("--drafter", type=FILE, help="GGUF file of its drafter.")
@click.option(
    "--limit", type=click.FloatRange(min=1), metavar="S", help="Seconds for each rule at most.  [default: 120]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: every rule, and the verdict.")
def check(name: str, model: Path | None, drafter: Path | None, limit: float | None, *, as_json: bool) -> int:
    """Test a backend against every rule that it must keep, on a real model.

    NAME is a registered backend, or a class that is not registered yet (MODULE:CLASS). Exit codes: 0 it keeps them all,
    4 nothing could be started, which proves nothing, 6 a rule is broken.
    """
    from advisor.console.progress import busy  # noqa: PLC0415
    from backends import conformance  # noqa: PLC0415 - only for who asks

    if drafter is not None and model is None:
        raise click.UsageError("--drafter belongs to a --model")
    results: list[Result] = []
    limit_s = limit or conformance.LIMIT_S
    with conformance.Bench(_backend(name), _pair(model, drafter) if model else None, limit_s=limit_s) as bench:
        for rule in conformance.RULES:
            with busy(conformance.name_of(rule)):
                results.append(bench.result(rule))
            if not as_json:
                _show(results[-1])
    verdict = conformance.verdict(results)
    if as_json:
        click.echo(msgspec.json.encode(_document(bench, verdict, results)))
    else:
        counts = ", ".join(f"{_count(results, status)} {status}" for status in COLORS)
        click.echo(f"\n{bench.backend.name} {SAID[verdict]}: {counts}, {sum(each.seconds for each in results):.1f} s")
    return CODES[verdict]


def _backend(name: str) -> Backend:
    """A registered backend, or the class that an entry point would name."""
    return loaded(EntryPoint(name=name, value=name, group=GROUP)) if ":" in name else load(name)


def _pair(target: Path, drafter: Path | None) -> Model:
    """Files of the user's own.

    Raises:
        RuntimeFailed: they are no models, or do not belong together.
    """
    from advisor.files import gguf  # noqa: PLC0415
    from advisor.running import demo  # noqa: PLC0415

    header, _ = gguf.pair(target, drafter)
    return Model(
        name=target.stem,
        target=target,
        drafter=drafter,
        draft_tokens=demo.DRAFT_TOKENS if drafter else 0,
        context_tokens=min(CONTEXT, header.context_length),
    )


def _show(result: Result) -> None:
    mark = click.style(result.status.upper(), fg=COLORS[result.status])
    click.echo(f"{mark}  {result.name:<16} {result.demand}  {result.seconds:.1f} s")
    if result.reason:
        click.echo(f"      > {result.reason}")


def _count(results: list[Result], status: str) -> int:
    return sum(result.status == status for result in results)


def _document(bench: Bench, verdict: Verdict, results: list[Result]) -> dict[str, object]:
    return {
        "schema": "advisor.backends.check/1",
        "backend": bench.backend.name,
        "model": bench.model.name,
        "verdict": verdict,
        "rules": results,
    }
