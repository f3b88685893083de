"""`advisor demo`: the whole way on the embedded pair, without network or another runtime."""

from __future__ import annotations

import click
import msgspec

from advisor.errors import AdvisorError
from advisor.machine import Machine
from advisor.running.demo import ANSWER_TOKENS, DRAFT_TOKENS, PAIRS, QUESTION, Comparison, collect, compare, pair
from backends.base import Options, usable

GIB = 1 << 30


@click.command(epilog="\b\nExample:\n  advisor demo 'Which model fits 16 GB?'")
@click.argument("question", default=QUESTION)
def command(question: str) -> None:
    """Show the machine and what suits it, then answer QUESTION with the embedded model and its drafter, and measure.

    The embedded model is tiny and knows only what this program is about; it is here to show the way, not to be clever.
    """
    from advisor.commands.run import positions  # noqa: PLC0415
    from advisor.console.printer import Printer  # noqa: PLC0415
    from advisor.running.client import running  # noqa: PLC0415

    model = pair()
    backend = usable("native")
    for line in [*machine_lines(machine := detected()), *recommendation_lines(machine)]:
        click.echo(line)
    with running(backend, backend.plan(model, Options())) as client:
        click.echo(f"\n{click.style('You', bold=True)}    {question}")
        click.echo(f"{click.style('Demo', bold=True)}   ", nl=False)
        shown = Printer(quiet=False)
        events = client.chat([{"role": "user", "content": question}], temperature=0, max_tokens=ANSWER_TOKENS)
        try:
            collect(events, lambda piece: shown.show(piece.text, thought=piece.thought))
        finally:
            shown.end()
        result = compare(
            lambda drafts: client.chat(
                [{"role": "user", "content": question}], temperature=0, max_tokens=ANSWER_TOKENS, draft_tokens=drafts
            )
        )
    click.echo()
    for line in comparison_lines(result, positions(msgspec.to_builtins(result.timings))):
        click.echo(line)
    click.echo("\nNext: advisor recommend   or   advisor run 'How do I run the 26B?' --stats")


def detected() -> Machine:
    """This machine."""
    from advisor.hardware.detection import detect  # noqa: PLC0415
    from advisor.knowledge.catalog import load  # noqa: PLC0415

    return detect(load().devices.values())


def machine_lines(machine: Machine) -> list[str]:
    """The machine in two lines."""
    memory = machine.memory
    usable = min(memory.total_bytes, memory.limit_bytes or memory.total_bytes)
    gpus = ", ".join(f"{gpu.name} {gpu.memory_total_bytes / GIB:.0f} GiB" for gpu in machine.gpus) or "none"
    return [
        f"Machine  {machine.cpu.name}, {machine.cpu.cores} cores, {usable / GIB:.1f} GiB of memory",
        f"GPU      {gpus}",
    ]


def recommendation_lines(machine: Machine) -> list[str]:
    """What `advisor recommend` would pick, in one line and one reason."""
    from advisor.choice.ranking import Request, rank  # noqa: PLC0415
    from advisor.knowledge.catalog import load  # noqa: PLC0415

    try:
        pick = rank(Request(), machine, load()).recommendations[0]
    except AdvisorError as error:
        return [f"Advice   {error.message}"]
    candidate = pick.candidate
    reason = f": {pick.reasons[0]}" if pick.reasons else ""
    return [f"Advice   {candidate.model.name} {candidate.quant.name}{reason}"]


def comparison_lines(result: Comparison, positions: str) -> list[str]:
    """The measurement in words, slower included."""
    timings = result.timings
    drafted, accepted = timings.draft_n or 0, timings.draft_n_accepted or 0
    share = f" ({accepted / drafted:.0%})" if drafted else ""
    words = (
        f"{result.gain:.2f} times as fast with the drafter"
        if result.gain >= 1
        else f"slower with the drafter here: {result.gain:.2f} times the speed"
    )
    same = "the same text both ways" if result.same_text else "the texts differ (a near-tie between two words)"
    return [
        f"Plain    {result.plain:>8,.0f} tokens/s",
        f"Drafter  {result.drafted:>8,.0f} tokens/s   {DRAFT_TOKENS} a round, {accepted} of {drafted} accepted{share}",
        f"         {positions}",
        f"Result   {words}, median of {PAIRS} pairs of runs; {same}",
    ]
