"""What a trial decided, applied to what is to be launched; and what the formula alone would have said of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.prediction import known, measurements
from advisor.running.order import Setup


def quant_of(setup: Setup) -> str:
    """Of the file; empty where it was not estimated."""
    return setup.estimate.subject.quant if setup.estimate else ""


def placement_of(setup: Setup) -> str:
    """Its mode, as a measurement has it."""
    return setup.estimate.placement.mode if setup.estimate else "cpu"


def expectations(setup: Setup, depth_tokens: int) -> dict[int, float]:
    """What the formula alone says of plain decoding and of its best draft length, at a depth; tokens per second."""
    found = setup.estimate
    if found is None:
        return {}
    from advisor.choice import estimate  # noqa: PLC0415

    asked = msgspec.structs.replace(found.question, depth_tokens=min(depth_tokens, found.question.context_tokens))
    where = msgspec.structs.replace(estimate.site(asked, found.machine, catalog.load()), known=None)
    speed = estimate.attempt(found.subject, asked, found.draft, where).speed
    if speed is None:
        return {}
    return {0: speed.plain} | ({speed.draft_tokens: speed.decode} if speed.draft_tokens else {})


def chosen(setup: Setup) -> Setup:
    """What is to be started with the draft length that was measured to be the best, or without the drafter where that
    was: for what the user left open.

    Whoever names a drafter or a length gets them.
    """
    order, model = setup.order, setup.model
    if order is None or order.draft_tokens is not None or model.drafter is None or not model.target.exists():
        return setup
    if not measurements.file().exists():
        return setup
    measured = known.of(machine_of(setup))
    there = Path(model.drafter).is_file()
    drafter = measurements.identify(model.drafter) if there else None
    found = measured.decided(measurements.identify(model.target), drafter, setup.backend) if measured else None
    if found is None or found.verdict not in ("keep", "drop"):
        return setup
    day = found.date[:10]
    if found.verdict == "keep":
        model = msgspec.structs.replace(model, draft_tokens=found.draft_tokens)
        reason = f"measured here on {day}: {found.gain:.2f} times the speed of plain decoding"
        return msgspec.structs.replace(setup, model=model, drafter_reason=reason)
    if order.drafter is not None:
        return setup
    model = msgspec.structs.replace(model, drafter=None, draft_tokens=0)
    reason = f"measured here on {day}: plain decoding is as fast; --drafter FILE or --draft-tokens N insist on it"
    return msgspec.structs.replace(setup, model=model, drafter_reason=reason)


def plain_speed(setup: Setup) -> float | None:
    """Tokens per second of plain decoding, as the last trial of this target and backend on this machine had it; None
    where there was none."""
    target = setup.model.target
    if setup.model.drafter is None or not target.exists() or not measurements.file().exists():
        return None
    measured = known.of(machine_of(setup))
    if measured is None:
        return None
    same = measurements.identify(target)
    found = [
        one.tokens_per_s
        for one in measured.found
        if one.source == "trial" and one.backend == setup.backend and not one.draft_tokens and one.target.same(same)
    ]
    return found[-1] if found else None


def machine_of(setup: Setup) -> Machine:
    """The machine that it will run on."""
    if setup.estimate:
        return setup.estimate.machine
    from advisor.hardware.detection import detect  # noqa: PLC0415

    return detect(catalog.load().devices.values())
