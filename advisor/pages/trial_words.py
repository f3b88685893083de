"""Words for draft lengths, and for what a trial has time for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.trials.schedule import Price
    from advisor.trials.trial import Outlook

MINUTE = 60
SHORT_S = 10
"""Below which tenths are told."""
FEW = 4
"""Kinds of work that are named one by one."""
LONG_S = 100
"""From which minutes are told."""


def length_in_words(length: int) -> str:
    """`plain`, `3`, or `auto` for a length that the backend adapts."""
    return {0: "plain", -1: "auto"}.get(length, str(length))


def outlook_line(found: Outlook, planned_s: float) -> str:
    """`each draft length takes a start of 52 s: plain and 3 take about 2 minutes; left out: length 1`.

    Args:
        planned_s: seconds that were wanted.
    """
    schedule = found.schedule
    bound = "about {}" if schedule.seconds > planned_s else "{} at most"
    lengths = listed([length_in_words(one) for one in schedule.lengths])
    without = left_out(found)
    told = f"{_reason(schedule.price)}: {lengths} take {bound.format(duration(schedule.seconds))}"
    return f"{told}; left out: {without}" if without else told


def left_out_line(found: Outlook) -> str:
    """`each draft length takes a start of 52 s, and there was no time for length 1`; empty where nothing is left
    out."""
    without = left_out(found)
    return f"{_reason(found.schedule.price)}, and there was no time for {without}" if without else ""


def left_out(found: Outlook) -> str:
    lengths = [length_in_words(one) for one in found.lengths]
    parts = [f"length{'s' if len(lengths) > 1 else ''} {listed(lengths)}"] if lengths else []
    if 0 < len(found.cells) <= FEW:
        parts.append(listed(found.cells))
    elif found.cells:
        every = len(found.cells) + len(found.schedule.cells)
        parts.append(f"{len(found.cells)} of {every} kinds of work, short and deep")
    return "; ".join(parts)


def _reason(price: Price) -> str:
    if price.start_s is None:
        return f"an answer takes {duration(price.answer_s)}"
    return f"each draft length takes a start of {duration(price.start_s)}"


def duration(seconds: float) -> str:
    """`0.5 s`, `52 s`, `2 minutes`."""
    if seconds < SHORT_S:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < LONG_S else f"{seconds / MINUTE:.0f} minutes"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part) if words else ""
