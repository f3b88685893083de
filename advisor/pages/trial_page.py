"""A trial for people: a table in the terminal, and a chart."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.pages.chart import Bar, Group, svg
from advisor.pages.terminal import WIDEST
from advisor.pages.trial_document import KindPart, LengthPart, TrialDocument
from advisor.pages.trial_words import length_in_words
from advisor.units import format_bytes

SHORT = 1024
"""Tokens of a prompt with no long text before it, at most."""
EITHER = "no difference worth finding: plain decoding"
VERDICTS = {"keep": "keep the drafter", "drop": "drop the drafter", "unclear": "nothing is proven: plain decoding"}


def show(found: TrialDocument, console: Console | None = None) -> None:
    """Print a trial."""
    out = console or Console(
        width=min(shutil.get_terminal_size((80, 24)).columns, WIDEST), highlight=False, markup=False, emoji=False
    )
    about = found.subject
    out.print()
    out.print(
        Text.assemble((about.model, "bold"), f"  {about.quant}".rstrip(), f" on {about.backend} {about.build}".rstrip())
    )
    if found.overall is not None:
        out.print(Text(verdict_line(found.overall), style="bold"))
        for line in detail_lines(found.overall):
            out.print(line)
        out.print()
        out.print(lengths_table(found.overall))
        out.print()
        out.print(kinds_table(found.kinds))
    out.print()
    noise = f"times differ by {found.noise:.1%} from answer to answer"
    out.print(Text(f"{found.answers} answers in {found.seconds:.0f} s; {noise}", style="dim"))
    for line in found.warnings:
        out.print(line)
    out.print()


def verdict_line(part: KindPart) -> str:
    """`keep the drafter, 3 tokens at a time: 1.62 times as fast (1.55 to 1.70)`."""
    if part.verdict != "keep":
        one = best(part)
        against = f"; at best {times(one)}" if one else ""
        alike = part.verdict == "drop" and one is not None and one.high > 1
        return f"{EITHER if alike else VERDICTS[part.verdict]}{against}"
    length = "a length that adapts" if part.draft_tokens < 0 else tokens(part.draft_tokens)
    return f"{VERDICTS['keep']}, {length} at a time: {part.gain:.2f} times as fast ({part.low:.2f} to {part.high:.2f})"


def best(part: KindPart) -> LengthPart | None:
    """The length that was chosen, where something is drafted; else the best of those that do."""
    drafted = [each for each in part.lengths if each.draft_tokens]
    chosen = [each for each in drafted if each.draft_tokens == part.draft_tokens]
    return max(chosen or drafted, key=lambda each: each.gain, default=None)


def tokens(number: int) -> str:
    return "one token" if number == 1 else f"{number} tokens"


def times(one: LengthPart) -> str:
    interval = f"{one.low:.2f} to {one.high:.2f}"
    return f"{one.gain:.2f} times as fast ({interval}) {with_length(one)}"


def with_length(one: LengthPart) -> str:
    return "with a length that adapts" if one.draft_tokens < 0 else f"with {one.draft_tokens} drafted"


def detail_lines(part: KindPart) -> list[str]:
    """Acceptance and memory of the chosen length, or of the best one."""
    one = best(part)
    lines = []
    if one and one.accepted is not None:
        shares = ", ".join(f"{share:.0%}" for share in one.acceptance)
        told = shares or f"unknown, {one.accepted:.0%} of all: this server counts no positions"
        lines.append(f"accepted by position {with_length(one)}: {told}")
    held = {each.draft_tokens: each.memory_bytes for each in part.lengths if each.memory_bytes}
    if held:
        most = max(held.values())
        lines.append(f"memory of the process: {format_bytes(most)}")
    alike = [length_in_words(each) for each in part.alike if each != part.draft_tokens]
    if alike:
        lines.append(f"may be as fast: {', '.join(alike)}")
    return lines


def lengths_table(part: KindPart) -> Table:
    """Every length, over all kinds of work."""
    table = plain_table("drafted", "times plain", "interval", "tokens/s", "first token", "accepted", "answers")
    for one in part.lengths:
        style = "bold" if one.draft_tokens == part.draft_tokens else ""
        table.add_row(
            length_in_words(one.draft_tokens),
            f"{one.gain:.2f}",
            f"{one.low:.2f} to {one.high:.2f}" if one.draft_tokens else "",
            f"{one.decode_tokens_per_s or 0:.1f}",
            f"{1000 * (one.first_token_s or 0):.0f} ms",
            f"{one.accepted:.0%}" if one.accepted is not None else "",
            str(one.n),
            style=style,
        )
    return table


def kinds_table(kinds: tuple[KindPart, ...]) -> Table:
    """For every kind of work the best length that drafts, and what is proven of it."""
    table = plain_table("kind of work", "depth", "drafter", "best", "times plain", "interval", "plain tok/s")
    for part in kinds:
        one = best(part)
        plain = next((each for each in part.lengths if not each.draft_tokens), None)
        table.add_row(
            part.kind or "all",
            f"{part.depth_tokens:,}",
            part.verdict,
            length_in_words(one.draft_tokens) if one else "",
            f"{one.gain:.2f}" if one else "",
            f"{one.low:.2f} to {one.high:.2f}" if one else "",
            f"{plain.decode_tokens_per_s or 0:.1f}" if plain else "",
            style="bold" if part.verdict == "keep" else "",
        )
    return table


def plain_table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=True)
    return table


def chart(found: TrialDocument) -> str:
    """The gain of every length for all work together, and of the best one for each kind, as SVG."""
    groups = []
    if found.overall is not None:
        bars = (
            bar(one, drafted(one), strong=one.draft_tokens == found.overall.draft_tokens)
            for one in found.overall.lengths
        )
        groups.append(Group(label="all work", bars=tuple(bars)))
    bests = [(part, one) for part in found.kinds if (one := best(part)) is not None]
    if bests:
        bars = (
            bar(one, f"{kind_name(part)}: {length_in_words(one.draft_tokens)}", strong=part.verdict == "keep")
            for part, one in bests
        )
        groups.append(Group(label="each kind, best length", bars=tuple(bars)))
    about = found.subject
    model = " ".join(part for part in (about.model, about.quant) if part)
    subtitle = f"{model} on {about.backend}, {', '.join(about.hardware)}; {found.generated_at[:10]}"
    title = verdict_line(found.overall) if found.overall else "nothing was measured"
    return svg(title[0].upper() + title[1:], subtitle, groups, unit="times plain decoding", mark=1.0)


def bar(one: LengthPart, label: str, *, strong: bool) -> Bar:
    known = bool(one.draft_tokens)
    return Bar(
        label=label,
        value=one.gain,
        low=one.low if known else None,
        high=one.high if known else None,
        note=f"{one.decode_tokens_per_s or 0:,.0f} tok/s",
        strong=strong,
    )


def drafted(one: LengthPart) -> str:
    return f"{length_in_words(one.draft_tokens)} drafted" if one.draft_tokens > 0 else length_in_words(one.draft_tokens)


def kind_name(part: KindPart) -> str:
    """With the depth, where the prompt is not short."""
    deep = part.depth_tokens > SHORT
    return f"{part.kind} at {part.depth_tokens / 1024:.1f}K" if deep else str(part.kind)
