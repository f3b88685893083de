"""A trial for people: a table in the terminal, and a chart."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.chart import Bar, Group, svg
from advisor.measurements import context_class
from advisor.terminal import WIDEST
from advisor.trial_document import KindPart, LengthPart, TrialDocument
from advisor.trial_words import length_in_words
from advisor.units import format_bytes

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
        best = max((each for each in part.lengths if each.draft_tokens), key=lambda each: each.gain, default=None)
        against = f"; at best {times(best)}" if best else ""
        return f"{VERDICTS[part.verdict]}{against}"
    length = "a length that adapts" if part.draft_tokens < 0 else tokens(part.draft_tokens)
    return f"{VERDICTS['keep']}, {length} at a time: {part.gain:.2f} times as fast ({part.low:.2f} to {part.high:.2f})"


def tokens(number: int) -> str:
    return "one token" if number == 1 else f"{number} tokens"


def times(one: LengthPart) -> str:
    interval = f"{one.low:.2f} to {one.high:.2f}"
    return f"{one.gain:.2f} times as fast ({interval}) with {length_in_words(one.draft_tokens)} drafted"


def detail_lines(part: KindPart) -> list[str]:
    """Acceptance and memory of the chosen length, or of the best one."""
    chosen = next((each for each in part.lengths if each.draft_tokens == part.draft_tokens), None)
    drafted = [each for each in part.lengths if each.draft_tokens]
    one = chosen if chosen and chosen.draft_tokens else max(drafted, key=lambda each: each.gain, default=None)
    lines = []
    if one and one.acceptance:
        lines.append("accepted by position: " + ", ".join(f"{share:.0%}" for share in one.acceptance))
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
    table = plain_table("kind of work", "depth", "drafter", "drafted", "times plain", "interval", "tokens/s", left=1)
    for part in kinds:
        one = next((each for each in part.lengths if each.draft_tokens == part.draft_tokens), None)
        table.add_row(
            part.kind or "all",
            context_class(part.depth_tokens),
            part.verdict,
            length_in_words(part.draft_tokens),
            f"{part.gain:.2f}",
            f"{part.low:.2f} to {part.high:.2f}" if part.draft_tokens else "",
            f"{one.decode_tokens_per_s or 0:.1f}" if one else "",
        )
    return table


def plain_table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=True)
    return table


def chart(found: TrialDocument) -> str:
    """The gain of every length, for all work together and for each kind, as SVG."""
    parts = [each for each in (found.overall, *found.kinds) if each is not None]
    groups = [
        Group(
            label=group_name(part),
            bars=tuple(
                Bar(
                    label=f"{length_in_words(one.draft_tokens)} drafted" if one.draft_tokens else "plain",
                    value=one.gain,
                    low=one.low if one.draft_tokens else None,
                    high=one.high if one.draft_tokens else None,
                    note=f"{one.decode_tokens_per_s or 0:.3g} tok/s",
                    strong=one.draft_tokens == part.draft_tokens,
                )
                for one in part.lengths
            ),
        )
        for part in parts
    ]
    about = found.subject
    subtitle = f"{about.model} {about.quant} on {about.backend}, {', '.join(about.hardware)}; {found.generated_at[:10]}"
    title = verdict_line(found.overall) if found.overall else "nothing was measured"
    return svg(title[0].upper() + title[1:], subtitle, groups, unit="times plain decoding", mark=1.0)


def group_name(part: KindPart) -> str:
    if part.kind is None:
        return "all work"
    deep = context_class(part.depth_tokens)
    return part.kind if deep == "1K" else f"{part.kind}, {deep}"
