"""What a trial found: the document `advisor.trial/1`, and the measurements that are remembered of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from advisor import __version__
from advisor.machine import Machine
from advisor.pages.parts import Bytes, Count, Part, Rate
from advisor.pages.trial_words import left_out_line
from advisor.prediction.measurements import FileId, Measurement, build_of, drivers, fingerprint, hardware, identify, now
from advisor.trials.answers import ADAPTS
from advisor.trials.decision import DROP, KEEP, TOLERANCE, WORTH, Decision, Standing, Verdict
from advisor.trials.trial import Sample, Trial
from backends.base import Backend, Model

SCHEMA: Final = "advisor.trial/1"
BUSY = 0.1
"""Noise beyond which something else used the machine."""
EVERYTHING = ""

Length = Annotated[int, Meta(ge=-1, description="tokens drafted per round; 0 is plain decoding, -1 an adapting length")]


class Subject(Part, frozen=True, kw_only=True):
    """What was measured. `files`: names, sizes and marks of their contents."""

    model: str
    quant: str
    backend: str
    build: str
    placement: str
    context_tokens: Count
    target: FileId
    drafter: FileId | None
    machine: str
    hardware: tuple[str, ...]
    drivers: str


class LengthPart(Part, frozen=True, kw_only=True):
    """One draft length. Speeds are tokens per second, medians; `gain`: of the whole answer against plain decoding, with
    its interval of 19 in 20. `acceptance`: share of guesses that were right, by position."""

    draft_tokens: Length
    n: Count
    gain: Rate
    low: Rate
    high: Rate
    decode_tokens_per_s: Rate | None
    decode_low: Rate | None
    decode_high: Rate | None
    prefill_tokens_per_s: Rate | None
    first_token_s: Rate | None
    acceptance: tuple[float, ...]
    accepted: float | None
    memory_bytes: Bytes | None


class KindPart(Part, frozen=True, kw_only=True):
    """One kind of work at one depth, or everything together (`kind` null). `verdict`: `unclear` where nothing is
    proven; plain decoding is the choice then. `alike`: lengths that may be as fast as the chosen one. `depth_tokens`:
    of the prompts, with half of what was written; of all work together that of the short ones, whose speeds are
    given."""

    kind: str | None
    depth_tokens: Count
    verdict: Verdict
    draft_tokens: Length
    gain: Rate
    low: Rate
    high: Rate
    alike: tuple[Length, ...]
    settled: bool
    lengths: tuple[LengthPart, ...]


class RulePart(Part, frozen=True, kw_only=True):
    """How it was decided: a length is left out at `drop_confidence`, the drafter kept at `keep_confidence` (both of one
    side), and dropped where a gain of `worth` is ruled out; lengths within `tolerance` of each other are alike. Both
    are logarithms."""

    drop_confidence: float
    keep_confidence: float
    tolerance: float
    worth: float


class TrialDocument(Part, frozen=True, kw_only=True):
    """Whether the drafter pays here, and with how many tokens. `finished` false: it was broken off, or time was up
    before all was clear. `noise`: standard deviation of a time, as a share."""

    schema: Literal["advisor.trial/1"]
    advisor_version: str
    generated_at: str
    subject: Subject
    quick: bool
    finished: bool
    answers: Count
    seconds: Rate
    noise: Rate
    rule: RulePart
    overall: KindPart | None
    kinds: tuple[KindPart, ...]
    warnings: tuple[str, ...]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    (schema,), definitions = msgspec.json.schema_components([TrialDocument], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        "title": f"advisor trial --json ({SCHEMA})",
        **schema,
        "$defs": definitions,
    }


def subject_of(model: Model, backend: Backend, machine: Machine, *, quant: str, placement: str) -> Subject:
    """What a trial is about, with the files' marks.

    Raises:
        RuntimeFailed: a file cannot be read.
    """
    found = backend.detect()
    build = " ".join(part for part in (found.version, found.build) if part) or build_of(machine, backend.name)
    return Subject(
        model=model.name,
        quant=quant,
        backend=backend.name,
        build=build,
        placement=placement,
        context_tokens=model.context_tokens,
        target=identify(model.target),
        drafter=identify(model.drafter) if model.drafter else None,
        machine=fingerprint(machine),
        hardware=hardware(machine),
        drivers=drivers(machine),
    )


def document(trial: Trial, subject: Subject) -> TrialDocument:
    """The document of a trial, finished or not."""
    overall = trial.decision()
    return TrialDocument(
        schema=SCHEMA,
        advisor_version=__version__,
        generated_at=now(),
        subject=subject,
        quick=trial.plan.quick,
        finished=trial.finished and trial.race.settled,
        answers=len(trial.samples),
        seconds=round(trial.samples[-1].elapsed_s, 1) if trial.samples else 0.0,
        noise=round(trial.race.noise, 4),
        rule=RulePart(drop_confidence=DROP, keep_confidence=KEEP, tolerance=TOLERANCE, worth=WORTH),
        overall=_part(trial, None, overall, trial.samples) if overall else None,
        kinds=tuple(_kinds(trial)),
        warnings=tuple(_warnings(trial)),
    )


def _kinds(trial: Trial) -> Iterable[KindPart]:
    for cell in trial.race.cells:
        found = trial.decision(cell)
        if found is not None:
            yield _part(trial, cell, found, [each for each in trial.samples if each.cell == cell])


def _part(trial: Trial, cell: str | None, found: Decision, samples: Sequence[Sample]) -> KindPart:
    return KindPart(
        kind=samples[0].kind if cell else None,
        depth_tokens=_depth(samples),
        verdict=found.verdict,
        draft_tokens=found.length,
        gain=_rounded(found.gain),
        low=_rounded(found.low),
        high=_rounded(found.high),
        alike=found.alike,
        settled=found.settled,
        lengths=tuple(
            _length(trial, each, [one for one in samples if one.length == each.length])
            for each in sorted(found.standings, key=lambda one: (one.length == ADAPTS, one.length))
        ),
    )


def _depth(samples: Sequence[Sample]) -> int:
    """Tokens in the context on average, while an answer was written; of the short prompts, if there are any."""
    counted = [each.answered for each in samples if not each.deep] or [each.answered for each in samples]
    return round(median(each.depth_tokens + each.tokens / 2 for each in counted))


def _length(trial: Trial, standing: Standing, samples: Sequence[Sample]) -> LengthPart:
    drafted = sum(each.answered.drafted for each in samples)
    right = sum(each.answered.accepted for each in samples)
    shallow = [each for each in samples if not each.deep]
    # Of all work together, the speed is that of short prompts: a mean over depths would belong to none.
    middle, wide = _middle([each.answered.tokens_per_s for each in shallow or samples])
    return LengthPart(
        draft_tokens=standing.length,
        n=standing.n,
        gain=_rounded(standing.gain),
        low=_rounded(standing.low),
        high=_rounded(standing.high),
        decode_tokens_per_s=_rounded(middle),
        decode_low=_rounded(middle - wide),
        decode_high=_rounded(middle + wide),
        prefill_tokens_per_s=_rounded(median(each.answered.read_tokens / each.answered.first_s for each in shallow))
        if shallow
        else None,
        first_token_s=_rounded(median(each.answered.first_s for each in samples)),
        acceptance=_positions(samples) or trial.positions.get(standing.length, ()),
        accepted=_rounded(right / drafted) if drafted else None,
        memory_bytes=trial.memory.get(standing.length) or max(trial.memory.values(), default=None),
    )


def _middle(rates: Sequence[float]) -> tuple[float, float]:
    """The median and how far off it may be: 1.25 standard errors of a mean, doubled, from the usual deviation."""
    middle = median(rates)
    usual = 1.4826 * median(abs(rate - middle) for rate in rates)
    return middle, min(middle, 2 * 1.25 * usual / len(rates) ** 0.5)


def _positions(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Acceptance by position over several answers, weighed by their rounds."""
    longest = max((len(each.answered.positions) for each in samples), default=0)
    shares = []
    for place in range(longest):
        seen = [each.answered for each in samples if len(each.answered.positions) > place]
        rounds = sum(max(1, each.rounds) for each in seen)
        shares.append(round(sum(each.positions[place] * max(1, each.rounds) for each in seen) / rounds, 4))
    return tuple(shares)


def _warnings(trial: Trial) -> Iterable[str]:
    if trial.race.noise > BUSY:
        yield (
            f"times of the same answer differ by {trial.race.noise:.0%}: something else uses this machine, or answers "
            "are very short; what is not proven in spite of it is called unclear"
        )
    if trial.outlook and (without := left_out_line(trial.outlook)):
        yield without
    if again := sum(each.answered.tries - 1 for each in trial.samples):
        yield f"{again} answers came in one piece, without a time of their own, and were asked for again"
    if trial.plan.depth_tokens and not any(each[0].deep for each in trial.prompts.values()):
        yield "nothing was measured behind a long text: the context is too short, or reading it would take minutes"
    if trial.finished and not trial.race.settled:
        overall = trial.decision()
        what = "for each kind of work; for all together it is" if overall and overall.settled else "for all"
        yield f"time was up before it was clear {what}" + (
            "; leave out --quick to measure longer" if trial.plan.quick else ""
        )
    if not trial.finished:
        yield "broken off: this is what was measured until then"


def _rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


# ---- What is remembered


def measurements(found: TrialDocument, *, expected: dict[int, float] | None = None) -> tuple[Measurement, ...]:
    """One for each length of each kind, and of all together.

    Args:
        expected: tokens per second by draft length, by the formula alone.
    """
    parts = [each for each in (found.overall, *found.kinds) if each is not None]
    return tuple(
        _measurement(found, part, one, (expected or {}).get(one.draft_tokens)) for part in parts for one in part.lengths
    )


def _measurement(found: TrialDocument, part: KindPart, one: LengthPart, expected: float | None) -> Measurement:
    about = found.subject
    return Measurement(
        source="trial",
        date=found.generated_at,
        model=about.model,
        quant=about.quant,
        target=about.target,
        drafter=about.drafter,
        backend=about.backend,
        build=about.build,
        machine=about.machine,
        drivers=about.drivers,
        placement=about.placement,
        context_tokens=about.context_tokens,
        depth_tokens=part.depth_tokens,
        kind=part.kind or EVERYTHING,
        draft_tokens=one.draft_tokens,
        tokens_per_s=one.decode_tokens_per_s or 0.0,
        low=one.decode_low,
        high=one.decode_high,
        n=one.n,
        gain=one.gain,
        gain_low=one.low,
        gain_high=one.high,
        chosen=one.draft_tokens == part.draft_tokens,
        verdict=part.verdict,
        acceptance=one.acceptance,
        prefill_tokens_per_s=one.prefill_tokens_per_s,
        first_token_s=one.first_token_s,
        memory_bytes=one.memory_bytes,
        expected_tokens_per_s=expected if part.kind is None else None,
        hardware=about.hardware,
    )
