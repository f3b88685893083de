"""Costs for people: a table in the terminal, and a chart."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.choice.estimate import Estimate
from advisor.money.economics import BreakEven, Economics
from advisor.pages.chart import Bar, Group, svg
from advisor.pages.terminal import WIDEST, money, rate, two_digits

TELLING = 10
"""Times from which a tenth more says nothing."""


def show(found: Estimate, reckoned: Economics, console: Console | None = None) -> None:
    """Print what it costs."""
    out = console or Console(
        width=min(shutil.get_terminal_size((80, 24)).columns, WIDEST), highlight=False, markup=False, emoji=False
    )
    currency = reckoned.price.currency
    out.print()
    out.print(Text.assemble((found.subject.name, "bold"), f"  {found.subject.quant} on {found.question.backend.name}"))
    if reckoned.saving:
        word = "saves" if reckoned.saving > 0 else "costs"
        out.print(Text(f"the drafter {word} {abs(reckoned.saving):.0%} of what an answer costs", style="bold"))
    out.print()
    table = small("", "users", "tokens/s", f"{currency} per million out", "in", "basis")
    for line in reckoned.lines:
        table.add_row(
            line.drafting,
            str(line.users),
            rate(line.tokens_per_s),
            money(line.per_million_out),
            money(line.per_million_in),
            line.basis,
        )
    out.print(table)
    if reckoned.break_even:
        out.print()
        table = small("hosted", "day", "in", "out", "here, always busy", "break-even")
        for each in reckoned.break_even:
            table.add_row(
                f"{each.price.provider} ({each.drafting})",
                each.price.date,
                money(each.price.input),
                money(each.price.output),
                compared(each.busy_ratio),
                hours_in_words(each),
            )
        out.print(table)
    out.print()
    prompt = two_digits(reckoned.lines[0].prompt_tokens_per_s)
    out.print(f"{reckoned.answer_share:.0%} of all tokens are written; prompts are read at about {prompt} tokens/s")
    for note in reckoned.notes:
        out.print(note)
    out.print()


def compared(ratio: float) -> str:
    """What this machine costs beside a hosted service, of that one's price over this machine's."""
    if not ratio:
        return "free there"
    times = max(ratio, 1 / ratio)
    return f"{two_digits(times) if times >= TELLING else f'{times:.1f}'}x {'cheaper' if ratio >= 1 else 'dearer'}"


def hours_in_words(each: BreakEven) -> str:
    if each.hours is None:
        return "never"
    return "always" if each.hours == 0 else f"{each.hours:.1f} h a day"


def small(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    return table


def chart(found: Estimate, reckoned: Economics) -> str:
    """Money per million tokens of an answer, here and elsewhere, as SVG."""
    lines = [
        Bar(
            label=f"{line.drafting}, {line.users} user{'s' if line.users > 1 else ''}",
            value=line.per_million_out,
            note=f"{rate(line.tokens_per_s)} tok/s",
            strong=line.users == 1,
        )
        for line in reckoned.lines
    ]
    services = {each.price.provider: each.price for each in reckoned.break_even}
    groups = [Group(label="here", bars=tuple(lines))]
    if services:
        hosted = (Bar(label=name[:26], value=each.output, note=each.date) for name, each in services.items())
        groups.append(Group(label="hosted", bars=tuple(hosted)))
    title = f"{found.subject.name} {found.subject.quant} on {found.question.backend.name}"
    return svg(title, reckoned.price.said, groups, unit=f"{reckoned.price.currency} per million tokens of answers")
