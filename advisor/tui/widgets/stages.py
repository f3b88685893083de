"""A start on its way: its files, the loader, the first answer; what is done, what goes on, and what is to come."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from textual.content import Content
from textual.reactive import reactive

from advisor.console.progress import Transfer, clock
from advisor.files.store import File
from advisor.tui import words
from advisor.tui.errand import place, role
from advisor.tui.widgets.drawn import Drawn
from advisor.units import format_file_size, format_rate

LABEL = 13
INDENT = "  "
SILENT_S = 3.0
"""Without a byte for so long, it is said."""
DONE, NOW, COMING, FAILED = ("✓", "$text-success"), ("●", "$primary"), ("○", "$foreground-muted"), ("✗", "$text-error")
Mark = tuple[str, str]


class Progress(NamedTuple):
    """How far it is. `stage`: 0 deciding, 1 fetching, 2 loading, 3 asking, 4 done. `silent_s`: seconds since anything
    came. `stopped`: it was cancelled or failed there."""

    stage: int
    files: tuple[File, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    loading: Transfer | None = None
    loading_s: float = 0.0
    silent_s: float = 0.0
    stopped: bool = False


class Stages(Drawn):
    """Three lines and what belongs to them."""

    HELP = """
What is done before it answers: the **files** are fetched (stopped at any point, it goes on there the next time), the
runtime **loads** them, and a **first answer** shows that the drafter really drafts.
"""

    progress: reactive[Progress] = reactive(Progress(0), layout=True)

    def draw(self, width: int) -> Content:
        now = self.progress
        lines = [heading(now, 1, "Files", said_of_files(now)), *files(now, width)]
        lines.append(heading(now, 2, "Load", said_of_loading(now)))
        if now.stage == 2 and now.loading is not None and now.loading.size:  # noqa: PLR2004 - as named there
            lines.append(transferred("", now.loading, width))
        lines.append(heading(now, 3, "First answer", said_of_answer(now)))
        return Content("\n").join(lines)


def mark(now: Progress, stage: int) -> Mark:
    current = max(1, now.stage)
    if current > stage:
        return DONE
    if current < stage:
        return COMING
    return FAILED if now.stopped else NOW


def heading(now: Progress, stage: int, name: str, said: str) -> Content:
    """A stage: its mark, its name, and what is said of it."""
    style = "bold" if max(1, now.stage) == stage else "" if now.stage > stage else "$foreground-muted"
    return Content.assemble(mark(now, stage), " ", (f"{name:<{LABEL}}", style), (said, "$foreground-muted"))


def said_of_files(now: Progress) -> str:
    if now.stage == 0:
        return (not now.stopped and words.silence(now.silent_s)) or "looking what is needed"
    if now.stage == 1 and now.silent_s > SILENT_S and not now.stopped:
        return f"nothing has come for {now.silent_s:.0f} s; it is tried again by itself"
    return "" if now.files else "all here"


def said_of_loading(now: Progress) -> str:
    if now.stage != 2 or now.stopped:  # noqa: PLR2004
        return ""
    return words.silence(now.silent_s) or (f"{now.loading_s:.0f} s" if now.loading_s >= 1 else "")


def said_of_answer(now: Progress) -> str:
    if now.stage != 3 or now.stopped:  # noqa: PLR2004
        return ""
    return words.silence(now.silent_s, "no answer") or "asking once, to see it draft"


def files(now: Progress, width: int) -> list[Content]:
    """Each file: its bar while it comes; otherwise where it is."""
    coming = {one.what.partition(" (")[0].removeprefix("checking what is here of "): one for one in now.transfers}
    lines = []
    for file in now.files:
        found = coming.get(Path(file.file).name)
        if found is not None and found.done < (found.size or 0) and now.stage == 1:
            lines.append(transferred(role(file), found, width))
            if found.what != Path(file.file).name:
                lines.append(Content.assemble(" " * (LABEL + 2), (found.what, "$foreground-muted")))
            continue
        here = file.here or now.stage > 1 or (found is not None and found.done >= (found.size or 1))
        said = f"{format_file_size(file.size):>9}  " + (place(file) if file.here else "here now" if here else "waiting")
        line = Content.assemble(INDENT, (f"{role(file):<{LABEL}}", "$foreground-muted"), said)
        lines.append(line.truncate(width, ellipsis=True))
    return lines


def transferred(label: str, one: Transfer, width: int) -> Content:
    """`Model  ━━━━━━━━────  4.2 GB of 14.2 GB  30%  12.1 MB/s  13:20 left`."""
    size = one.size or 0
    share = min(1.0, one.done / size) if size else 0.0
    figures = f"{format_file_size(one.done)} of {format_file_size(size)}  {share * 100:3.0f}%"
    if one.bytes_per_s >= 1:
        figures += f"  {format_rate(int(one.bytes_per_s))}"
        figures += f"  {clock(one.seconds_left)} left" if one.seconds_left is not None else ""
    space = max(6, width - len(INDENT) - LABEL - len(figures) - 2)
    full = int(share * space)
    return Content.assemble(
        INDENT,
        (f"{label:<{LABEL}}", "$foreground-muted"),
        ("━" * full, "$success"),
        ("─" * (space - full), "$foreground-disabled"),
        f"  {figures}",
    )
