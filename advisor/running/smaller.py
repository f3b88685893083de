"""The next smaller choice, for whoever was short of memory although it should have sufficed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import AdvisorError, OutOfMemory
from advisor.knowledge import catalog
from advisor.units import format_bytes

if TYPE_CHECKING:
    from advisor.choice.estimate import Estimate
    from advisor.running.order import Order, Setup

USEFUL_CONTEXT = 4096
"""Tokens; above, a shorter context is the first thing to give up."""
LEAST_CONTEXT = 1024
"""Tokens; below, no conversation fits."""
CLEARLY = 20
"""A choice that needs a twentieth less is worth trying where nobody knows how much was missing."""


def advised(error: OutOfMemory, setup: Setup) -> OutOfMemory:
    """The error with the next smaller choice as its command; as it was, where there is none."""
    found = choice(setup, error.size, on_gpu=error.on_gpu)
    if found is None:
        return error
    order, needs = found
    had = setup.expected_bytes or 0
    return OutOfMemory(
        error.message,
        hint=f"the next smaller choice takes {format_bytes(needs)} in all instead of {format_bytes(had)}",
        command=order.typed(),
        size=error.size,
        on_gpu=error.on_gpu,
    )


def choice(setup: Setup, short: int, *, on_gpu: bool = False) -> tuple[Order, int] | None:
    """The first of the smaller choices, from the least loss to the greatest, that needs at least `short` bytes less.

    Args:
        short: bytes of what was refused, 0 where nobody knows.
        on_gpu: whether they are of a GPU's memory.

    Returns:
        The order and the bytes that it needs in all; None where nothing is left to give up.
    """
    found, order = setup.estimate, setup.order
    if found is None or order is None:
        return None
    now = _held(found, on_gpu=on_gpu)
    most = now - max(short, now // CLEARLY)
    for one in _steps(order, setup, found):
        then = _tried(one, setup)
        if then is not None and _held(then, on_gpu=on_gpu) <= most:
            return one, then.placement.device_bytes + then.placement.host_bytes
    return None


def _held(found: Estimate, *, on_gpu: bool = False) -> int:
    """Bytes of main memory, or of the GPUs; one memory that both share is main memory too."""
    placed = found.placement
    return placed.device_bytes if on_gpu or found.limits.unified else placed.host_bytes


def _steps(order: Order, setup: Setup, found: Estimate) -> Iterator[Order]:
    """Smaller choices: fewer conversations, a shorter context, no drafter, a smaller file, a smaller model."""
    order = msgspec.structs.replace(order, context=setup.model.context_tokens, model=order.model or setup.model.name)
    if found.subject.quant_record:
        order = msgspec.structs.replace(order, quant=found.subject.quant)
    few = [msgspec.structs.replace(order, parallel=count) for count in _halves(order.parallel, 1)]
    yield from few
    order = few[-1] if few else order
    plain = order.plain()
    yield from _shorter(order, USEFUL_CONTEXT)
    if setup.model.drafter:
        yield plain
        yield from _shorter(plain, USEFUL_CONTEXT)
    yield from _shorter(order, LEAST_CONTEXT)
    yield from _shorter(plain, LEAST_CONTEXT)
    for other in _files(order, found):
        yield other
        yield from _shorter(other, USEFUL_CONTEXT)


def _halves(number: int, least: int) -> Iterator[int]:
    while (number := number // 2) >= least:
        yield number


def _shorter(order: Order, least: int) -> Iterator[Order]:
    for tokens in _halves(order.context or 0, least):
        yield msgspec.structs.replace(order, context=tokens)


def _files(order: Order, found: Estimate) -> Iterator[Order]:
    """Smaller files of the same model, then the smaller models, each in the file that it is usually run in."""
    profile, quant = found.subject.profile, found.subject.quant_record
    if profile is None or quant is None:
        return
    less = [each for each in profile.quants if each.bytes < quant.bytes]
    for each in sorted(less, key=lambda one: -one.bytes):
        yield msgspec.structs.replace(order, quant=each.name)
    models = [
        each
        for each in catalog.load().models.values()
        if each.architecture.parameters < profile.architecture.parameters
    ]
    for model in sorted(models, key=lambda one: -one.architecture.parameters):
        yield msgspec.structs.replace(order, model=model.id, quant=None, drafter=None)


def _tried(order: Order, setup: Setup) -> Estimate | None:
    """What an order would need here; None where it cannot be, or should not fit either."""
    from advisor.running.launching import estimated  # noqa: PLC0415 - it needs this module's caller

    try:
        found = estimated(order, setup)
    except AdvisorError:
        return None
    return found if found.fits else None
