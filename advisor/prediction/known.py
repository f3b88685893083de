"""What was measured here, applied: to predictions of the same file, of its near relatives, and to what is launched.

A measurement counts as long as what it measured is the same: the files, the runtime's build, the drivers, the hardware.
It says what is: speeds of these very files are shown as measured. For another quant of the same model, or another size
with the same runtime on the same device, it says how far off the formula is here; part of that is believed. Where there
is no such trial, a calibration says what steps take on this processor and this GPU, and several rows at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from math import exp, log

import msgspec

from advisor.knowledge.profile import Drafter, DrafterFile
from advisor.machine import Machine, Record
from advisor.prediction import measurements
from advisor.prediction.measurements import FileId, Measurement
from advisor.prediction.pace import CPU, GPU, MOST_OFF, RUNTIME, Pace, pace_of
from advisor.prediction.speed import Evidence, Setup, Speed, plain_at, predict

KINDS: dict[str, tuple[str, ...]] = {
    "chat": ("chat", "questions"),
    "code": ("code", "edit"),
    "structured": ("structured",),
    "reasoning": ("mathematics",),
    "translation": ("translation",),
    "story": ("story",),
}
"""Kinds of work that a use case's kind of output stands for."""
SAME_MODEL, OTHER_SIZE = 0.8, 0.5
"""How much of what the formula is off by is believed of a relative, as a share of the logarithm."""
OTHER_RUNTIME = 0.5
"""The same of a calibration, by a runtime that has llama.cpp's kernels too, in a build of its own."""
WITH_THE_SAME_KERNELS = frozenset({"llama.cpp", "ollama"})
LARGER = 10.0
"""Beyond so many times its size a model is no relative: what a step takes besides reading weights is another matter."""
LEAST_WIDTH = 0.04
"""Of a measured speed's range, as a logarithm: another day, another answer."""


class Question(Record, frozen=True, kw_only=True):
    """A configuration that a speed is predicted for. `output`: kind of output, as a use case has it."""

    model: str
    quant: str
    file: FileId
    backend: str
    placement: str
    depth_tokens: int
    output: str
    drafting: bool


class Known(Record, frozen=True, kw_only=True):
    """Measurements that hold on this machine, the oldest first: its own, and what others measured on the same. `pace`,
    `gpu_pace`: what its processor and its GPU were calibrated at."""

    found: tuple[Measurement, ...]
    pace: Pace | None = None
    gpu_pace: Pace | None = None

    def predicted(self, setup: Setup, drafter: Drafter | None, file: DrafterFile | None, asked: Question) -> Speed:
        """As `speed.predict`, with what is known: these files, the same model, this runtime's steps, another size."""
        speed = predict(setup, drafter, file, asked.output)
        alike = [one for one in self.found if one.backend == asked.backend and one.placement == asked.placement]
        same = [one for one in alike if one.target.same(asked.file)]
        if same:
            return _measured(speed, asked, _latest(same), functools.partial(plain_at, setup))
        relative, paces = _relative(asked, alike), self.paces(asked)
        told = next((one for one in paces if one), None)
        if relative is not None and (relative.model == asked.model or told is None or told.trust < 1):
            return _related(speed, asked, alike, relative)
        if told is None:
            return speed
        paced = msgspec.structs.replace(setup, pace=paces[0], gpu_pace=paces[1])
        return _calibrated(speed, told, predict(paced, drafter, file, asked.output))

    def paces(self, asked: Question) -> tuple[Pace | None, Pace | None]:
        """What a calibration says of this configuration: of the processor's part and of the GPU's."""

        def there(pace: Pace | None) -> Pace | None:
            if pace is None or asked.backend == RUNTIME:
                return pace
            alike = asked.backend in WITH_THE_SAME_KERNELS
            return msgspec.structs.replace(pace, trust=OTHER_RUNTIME) if alike else None

        return (
            there(self.pace) if asked.placement != GPU else None,
            there(self.gpu_pace) if asked.placement != CPU else None,
        )

    def decided(self, target: FileId, drafter: FileId | None, backend: str) -> Measurement | None:
        """The choice of the last trial of these files that proved something, or else of the last one; all work
        together."""
        chosen = [
            one
            for one in self.found
            if one.source == "trial"
            and one.chosen
            and not one.kind
            and one.backend == backend
            and one.target.same(target)
            and (drafter is None or one.drafter is None or one.drafter.same(drafter))
        ]
        proven = [one for one in chosen if one.verdict != "unclear"]
        return next(reversed(proven or chosen), None)


def of(machine: Machine) -> Known | None:
    """What is known of a machine; None where it is simulated, or nothing is."""
    if machine.simulated or not measurements.file().exists():
        return None
    found = measurements.recall(measurements.fingerprint(machine))
    valid = [one for one in found if not retired(one, machine)]
    trials = tuple(one for one in valid if one.source in ("trial", "imported"))
    timed = [one for one in valid if one.source == "calibration"]
    pace, gpu_pace = pace_of(timed), pace_of(timed, GPU)
    return Known(found=trials, pace=pace, gpu_pace=gpu_pace) if trials or pace or gpu_pace else None


def retired(one: Measurement, machine: Machine) -> str:
    """Why a measurement does not hold any more; empty while it does."""
    if one.source == "imported":
        return ""
    drivers = measurements.drivers(machine)
    if one.drivers != drivers:
        return f"measured with the driver {one.drivers or 'unknown'}, now it is {drivers or 'unknown'}"
    build = measurements.build_of(machine, one.backend)
    if build and one.build != build:
        return f"measured with {one.backend} {one.build or 'unknown'}, now it is {build}"
    return ""


# ---- The same file


def _latest(same: list[Measurement]) -> list[Measurement]:
    """Those of the last trial that proved something, or else of the last one; one's own before others'. What was broken
    off a moment ago takes nothing away from what took a quarter of an hour."""
    own = [one for one in same if one.source == "trial"] or same
    last = next((one for one in reversed(own) if not one.kind and one.verdict in ("keep", "drop")), own[-1])
    return [one for one in own if one.date == last.date and one.target.mark == last.target.mark]


def _measured(speed: Speed, asked: Question, trial: list[Measurement], at: Callable[[int], float]) -> Speed:
    """The speed that was measured, carried over to the depth asked for as the formula has it."""
    chosen = _of_kind(trial, asked)
    plain = [one for one in chosen if one.draft_tokens == 0]
    if not plain:
        return speed
    rate = _carried(plain, speed.plain, at)
    best = next((one for one in chosen if one.chosen), plain[0])
    gain, drafts = best.tokens_per_s / plain[0].tokens_per_s, best.draft_tokens
    if drafts < 0:  # a length that adapts; what is shown is the fixed one that comes nearest
        drafts = max((one for one in chosen if one.draft_tokens > 0), key=lambda one: one.gain or 0.0).draft_tokens
    unproven = best.verdict == "unclear"
    if not asked.drafting:
        best, gain, drafts = plain[0], 1.0, 0
    elif unproven:
        gain, drafts = speed.drafter_gain, speed.draft_tokens
    slower, faster = _width(best)
    day = best.date[:10]
    who = "measured here" if best.source == "trial" else "measured by somebody else on the same hardware"
    return msgspec.structs.replace(
        speed,
        decode=rate * gain,
        low=rate * gain * exp(-slower),
        high=rate * gain * exp(faster),
        plain=rate,
        plain_low=rate * exp(-slower),
        plain_high=rate * exp(faster),
        draft_tokens=drafts,
        drafter_gain=gain,
        gain_low=speed.gain_low if unproven else best.gain_low or gain,
        gain_high=speed.gain_high if unproven else best.gain_high or gain,
        prefill=plain[0].prefill_tokens_per_s or speed.prefill,
        full=speed.full * rate * gain / speed.decode,
        evidence=Evidence(
            kin="measured",
            reason=f"{who} on {day}"
            + ("; the drafter's gain is the formula's, nothing was proven" if unproven else ""),
            date=best.date,
            shared=best.source != "trial",
            formula_plain=speed.plain,
            formula_decode=speed.decode,
        ),
    )


def _of_kind(trial: list[Measurement], asked: Question) -> list[Measurement]:
    """What was measured of this kind of work, as near as possible to the depth; of all work together otherwise."""
    wanted = KINDS.get(asked.output, ())
    of_kind = [one for one in trial if one.kind in wanted] or [one for one in trial if not one.kind]
    if not of_kind:
        return []
    nearest = min(of_kind, key=lambda one: abs(log((one.depth_tokens + 64) / (asked.depth_tokens + 64))))
    return [one for one in of_kind if (one.kind, one.context_class) == (nearest.kind, nearest.context_class)]


def _carried(plain: list[Measurement], here: float, at: Callable[[int], float]) -> float:
    """Plain speed at the depth where the formula says `here`."""
    rates = sorted(one.tokens_per_s * here / at(one.depth_tokens) for one in plain)
    return rates[len(rates) // 2]


def _width(one: Measurement) -> tuple[float, float]:
    """A measured range as logarithms: slower, faster."""
    middle = one.tokens_per_s
    low = log(middle / one.low) if one.low else 0.0
    high = log(one.high / middle) if one.high else 0.0
    return max(low, LEAST_WIDTH), max(high, LEAST_WIDTH)


# ---- Relatives


def _relative(asked: Question, alike: Iterable[Measurement]) -> Measurement | None:
    """Plain decoding of another quant of the model, or of the size that comes nearest; the last of each."""

    def distance(one: Measurement) -> float:
        return abs(log(max(one.target.size, 1) / max(asked.file.size, 1)))

    plain = [one for one in alike if _tells(one) and one.draft_tokens == 0]
    kin = [one for one in plain if one.model == asked.model]
    kin = kin[-1:] or [one for one in reversed(plain) if distance(one) < log(LARGER)]
    return min(kin, key=distance, default=None)


def _tells(one: Measurement) -> bool:
    """Whether it says how far off the formula is."""
    return bool(one.expected_tokens_per_s and one.tokens_per_s) and not one.kind


def _related(speed: Speed, asked: Question, alike: Iterable[Measurement], nearest: Measurement) -> Speed:
    """The formula corrected by what it was off by for another quant or size."""
    trust = SAME_MODEL if nearest.model == asked.model else OTHER_SIZE
    off = nearest.tokens_per_s / (nearest.expected_tokens_per_s or nearest.tokens_per_s)
    factor = _believed(off, trust)
    gain = speed.drafter_gain
    if asked.drafting and speed.draft_tokens:
        trial = [one for one in alike if _tells(one) and one.date == nearest.date]
        gain *= _believed(_gain_off(trial, nearest), trust)
    change = factor * gain / speed.drafter_gain
    name = f"{nearest.model} {nearest.quant}".strip()
    return msgspec.structs.replace(
        speed,
        decode=speed.decode * change,
        low=speed.low * change,
        high=speed.high * change,
        plain=speed.plain * factor,
        plain_low=speed.plain_low * factor,
        plain_high=speed.plain_high * factor,
        drafter_gain=gain,
        full=speed.full * change,
        evidence=Evidence(
            kin="relative",
            reason=f"the formula times {change:.2f}: {name} was measured here at {off:.2f} of what it says",
            date=nearest.date,
            shared=nearest.source != "trial",
            formula_plain=speed.plain,
            formula_decode=speed.decode,
        ),
    )


def _calibrated(speed: Speed, pace: Pace, found: Speed) -> Speed:
    """The formula with this processor's pace, and why."""
    day = f"calibrated here on {pace.date[:10]}"
    times = f"a step takes {speed.plain / found.plain:.2f} times what the formula says"
    evidence = Evidence(
        kin="calibrated",
        reason=f"{day}: {times}" + (f", half of it believed: it was {RUNTIME}'s" if pace.trust < 1 else ""),
        date=pace.date,
        formula_plain=speed.plain,
        formula_decode=speed.decode,
    )
    return msgspec.structs.replace(found, evidence=evidence)


def _believed(off: float, trust: float) -> float:
    return exp(trust * max(-MOST_OFF, min(MOST_OFF, log(off))))


def _gain_off(trial: list[Measurement], plain: Measurement) -> float:
    """What the drafter gained there, relative to what the formula said."""
    drafted = next((one for one in trial if one.draft_tokens and one.expected_tokens_per_s), None)
    if drafted is None or not plain.expected_tokens_per_s or not drafted.expected_tokens_per_s:
        return 1.0
    said = drafted.expected_tokens_per_s / plain.expected_tokens_per_s
    return (drafted.tokens_per_s / plain.tokens_per_s) / said
