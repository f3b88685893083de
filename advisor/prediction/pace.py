"""What steps were timed at here: by `advisor calibrate`, with layers as wide as a real model's.

The formula knows a device by its cores and its memory; a virtual machine, a laptop on battery or another build of the
runtime is known by its pace. How dear several rows at once are, which a drafter's gain rests on, is known of few
devices at all.

On a processor two layers are timed: their step is nearly all of it reading weights. On a GPU a step's beginning and end
take as long as a layer: there it is what six layers take longer than two, and the embedded model, whose layers weigh
nothing, says what a layer takes besides its weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, log
from statistics import median
from typing import TYPE_CHECKING

from advisor.machine import Record

if TYPE_CHECKING:
    from advisor.prediction.measurements import Measurement

RUNTIME = "native"
DEMO, DEMO_LAYERS = "demo", 15
WIDE, LAYERS, PASSED = "two layers of 12b", 2, 495_452_160
"""What is timed, how many layers it has, and weights that each token of a prompt passes (`synthetic.passed`)."""
WIDER, MORE_LAYERS, MORE_PASSED = "six layers of 12b", 6, 1_486_356_480
ROWS, PROMPT = "rows", "prompt"
"""Kinds of a calibration's measurements."""
CPU, GPU = "cpu", "gpu"
"""Their placements."""
MOST_OFF = log(3)
"""Beyond, something else is wrong than the formula."""
DISTURBED = 1.3
"""Where steps took so many times as long as the quickest, something else was at work: nothing is believed."""
PROCESSOR = "CPU"
"""The build of the runtime whose steps on the processor are believed: others keep weights in another layout there."""
LEAST_SHARE = 0.5
"""Of a timed step that reading weights is taken for at least, whatever its fixed time is said to be."""
LEAST_MORE = 1.1
"""How many times as long as two layers six must take, or the difference is noise."""


class Pace(Record, frozen=True, kw_only=True):
    """A step's seconds with one row, through so many layers and bytes of weights, all of them repacked; `rows`: what 1,
    2, ... rows cost, in such steps. `layer_s`: fixed time of a layer; None where the formula's is as good. `flops`: of
    reading a prompt, a second; None where it was not timed. `trust`: how much of it is believed, as a share of
    logarithms: less of another runtime."""

    seconds: float
    bytes: int
    layers: int
    rows: tuple[float, ...]
    date: str
    layer_s: float | None = None
    flops: float | None = None
    trust: float = 1.0

    def believed(self, formula: float, timed: float | None) -> float:
        """What was timed, as far as it is believed."""
        if timed is None or timed <= 0:
            return formula
        off = log(timed / formula)
        return formula * exp(self.trust * max(-MOST_OFF, min(MOST_OFF, off)))

    def factor(self, layer_s: float, weights_per_s: float) -> float:
        """How many times as fast weights go by as the formula says.

        Args:
            layer_s: fixed time of a layer.
            weights_per_s: bytes, by the formula.
        """
        reading = self.seconds - self._fixed(layer_s)
        return self.believed(weights_per_s, self.bytes / reading) / weights_per_s

    def cost(self, rows: int, assumed: float, layer_s: float = 0.0) -> float:
        """Of reading weights for so many rows, in plain steps; beyond what was timed, in proportion.

        Args:
            assumed: what is said where nothing was timed.
            layer_s: fixed time of a layer, which more rows do not make longer.
        """
        last = len(self.rows)
        steps = self.rows[rows - 1] if rows <= last else self.rows[-1] * rows / last
        fixed = self._fixed(layer_s) / self.seconds
        timed = max(steps - fixed, 0.1) / (1 - fixed)
        return float(timed**self.trust * assumed ** (1 - self.trust))

    def _fixed(self, layer_s: float) -> float:
        return min(self.layers * layer_s, (1 - LEAST_SHARE) * self.seconds)


class Timed(Record, frozen=True, kw_only=True):
    """One model of a calibration. `rows`: seconds of a step with 1, 2, ... rows; `prompt_s`: of a token of a prompt."""

    rows: tuple[float, ...]
    prompt_s: float | None
    bytes: int
    build: str
    date: str


def disturbed(seconds: Mapping[int, float], usual: Mapping[int, float]) -> float:
    """How many times as long steps took as those with nothing in the way: usually, and that of a single row, beside
    which none of more rows can be quicker.

    Args:
        seconds, usual: of a step by its rows, with nothing in the way and in the middle.
    """
    middle = median([usual[rows] / taken for rows, taken in seconds.items() if rows in usual] or [1.0])
    return max(middle, seconds[1] / min(seconds.values()))


def pace_of(calibrations: Iterable[Measurement], placement: str = CPU) -> Pace | None:
    """What the last calibration says of the processor or the GPU, the oldest first; None where there is none, or it is
    not whole, or the machine was at work on something else."""
    found = [one for one in calibrations if one.backend == RUNTIME and (one.placement or CPU) == placement]
    wide = _timed(found, WIDE)
    if wide is None:
        return None
    if placement == GPU:
        return _of_gpu(wide, _timed(found, WIDER), _timed(found, DEMO))
    if PROCESSOR not in wide.build.split():
        return None
    return Pace(
        seconds=wide.rows[0],
        bytes=wide.bytes,
        layers=LAYERS,
        rows=_in_steps(wide.rows),
        date=wide.date,
        flops=2 * PASSED / wide.prompt_s if wide.prompt_s else None,
    )


def _of_gpu(few: Timed, more: Timed | None, demo: Timed | None) -> Pace | None:
    """What further layers take."""
    if more is None or len(more.rows) != len(few.rows) or more.rows[0] < LEAST_MORE * few.rows[0]:
        return None
    rows = tuple(max(a - b, 0.0) for a, b in zip(more.rows, few.rows, strict=True))
    prompt = more.prompt_s - few.prompt_s if more.prompt_s and few.prompt_s else 0.0
    further = MORE_LAYERS - LAYERS
    layer_s = None
    if demo is not None:
        # A step is begun and ended, and passes layers: two of them in `few`, all of the demo's without weights.
        layer_s = (rows[0] * LAYERS / further - few.rows[0] + demo.rows[0]) / DEMO_LAYERS
    return Pace(
        seconds=rows[0],
        bytes=more.bytes - few.bytes,
        layers=further,
        rows=_in_steps(rows),
        date=few.date,
        layer_s=layer_s if layer_s and layer_s > 0 else None,
        flops=2 * (MORE_PASSED - PASSED) / prompt if prompt > 0 else None,
    )


def _in_steps(rows: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(one / rows[0] for one in rows)


def _timed(calibrations: list[Measurement], model: str) -> Timed | None:
    """The last of that model; None where there is none, or it cannot be believed."""
    found = [one for one in calibrations if one.model == model]
    last = {one.draft_tokens + 1: one for one in found if one.date == found[-1].date and one.kind.startswith(ROWS)}
    rows = tuple(count / last[count].tokens_per_s for count in sorted(last) if last[count].tokens_per_s > 0)
    if not rows or sorted(last) != list(range(1, len(rows) + 1)):
        return None
    usual = {count: count / one.low for count, one in last.items() if one.low}
    if disturbed(dict(enumerate(rows, 1)), usual) > DISTURBED:
        return None
    read = next((one for one in found if one.date == found[-1].date and one.kind == PROMPT and one.tokens_per_s), None)
    return Timed(
        rows=rows,
        prompt_s=1 / read.tokens_per_s if read else None,
        bytes=last[1].target.size,
        build=last[1].build,
        date=last[1].date,
    )
