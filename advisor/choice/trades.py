"""The trades behind a pick, with figures: larger file or drafter, QAT or PTQ, all on the GPU or experts beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from advisor.choice.candidates import Candidate
from advisor.units import format_file_size

CLEARLY_BETTER = 1.004
"""A larger file that keeps less than half a per cent more is not worth a sentence."""


def trades(pick: Candidate, running: Sequence[Candidate]) -> tuple[str, ...]:
    """One sentence for each trade that this pick makes, the weightiest first; none where there is no choice.

    Args:
        pick: what is recommended.
        running: everything that fits and is fast enough, the pick included.
    """
    return tuple(_trades(pick, running))


def _trades(pick: Candidate, running: Sequence[Candidate]) -> Iterator[str]:
    if beside := on_or_beside(pick, running):
        yield beside
    same = [one for one in running if one.model.id == pick.model.id]
    larger = [one for one in same if one.quality >= CLEARLY_BETTER * pick.quality]
    if larger:
        other = min(larger, key=lambda one: one.quant.bytes)
        yield f"{larger_or_drafter(pick, other)}, {gain(other.quality, pick.quality)} better"
    if pick.quant.qat:
        yield qat_or_ptq(pick, same)


def larger_or_drafter(pick: Candidate, other: Candidate) -> str:
    """The pick's file with its drafter against a larger one without, or both without."""
    if pick.drafter.enabled:
        return (
            f"{pick.quant.name} with its drafter runs at {speed(pick.speed.decode)}, "
            f"{other.quant.name} without one at {speed(other.speed.plain)}"
        )
    return f"{pick.quant.name} runs at {speed(pick.speed.plain)}, {other.quant.name} at {speed(other.speed.plain)}"


def qat_or_ptq(pick: Candidate, same: Sequence[Candidate]) -> str:
    """Trained for 4 bits against rounded to 4 bits."""
    rounded = [quant for quant in pick.model.quants if "Q4" in quant.name and not quant.qat]
    if not rounded:
        return f"trained for 4 bits (QAT): keeps {pick.quant.quality:.1%} of the quality"
    rival = max(rounded, key=lambda quant: quant.quality)
    running = next((one for one in same if one.quant is rival), None)
    said = (
        f"QAT keeps {100 * pick.quant.quality:.1f}% of the quality in {format_file_size(pick.quant.bytes)}, "
        f"{rival.name} {100 * rival.quality:.1f}% in {format_file_size(rival.bytes)}"
    )
    if running is None:
        return f"{said}, which is too large or too slow here"
    return f"{said} at {speed(running.speed.decode)}"


def on_or_beside(pick: Candidate, running: Sequence[Candidate]) -> str:
    """A model that is all on the GPU against the next larger one with experts on the processor, or the reverse."""
    whole = [one for one in running if one.placement.mode == "gpu"]
    fit = {one.model.id for one in whole}
    beside = [one for one in running if one.placement.mode == "experts-on-cpu" and one.model.id not in fit]
    mode = pick.placement.mode
    first = pick if mode == "gpu" else finest(whole, pick)
    second = pick if mode == "experts-on-cpu" else finest(beside, pick)
    if first is None or second is None or mode not in ("gpu", "experts-on-cpu"):
        return ""
    moved = second.placement.cpu_expert_layers
    return (
        f"{short(first)} all on the GPU: {figures(first)}; {short(second)} with the experts of "
        f"{moved} of {second.load.layers} layers on the processor: {figures(second)}"
    )


def finest(candidates: Sequence[Candidate], pick: Candidate) -> Candidate | None:
    """Of the best of the other models the fastest file, None where there is none."""
    others = [one for one in candidates if one.model.id != pick.model.id]
    best = max(others, key=lambda one: one.quality, default=None)
    return best and max((one for one in others if one.model is best.model), key=lambda one: one.speed.decode)


def short(one: Candidate) -> str:
    return one.model.name.removeprefix("Gemma 4 ")


def figures(one: Candidate) -> str:
    return f"{speed(one.speed.decode)}, quality {one.quality:.0f}"


def speed(rate: float) -> str:
    return f"{rate:.0f} tok/s" if rate >= 10 else f"{rate:.1f} tok/s"  # noqa: PLR2004 - two digits


def gain(better: float, worse: float) -> str:
    return f"{100 * (better / worse - 1):.1f}%"
