"""What a million tokens costs on this machine, plain and drafted, alone and shared, against what hosted services ask.

Speeds are measured where a trial was made, predicted otherwise. A machine is paid for by the hour whether it works or
not; how many hours of work a day make it as cheap as a service is the break-even, at the price of the whole day.
"""

from __future__ import annotations

from typing import Final, Literal

from advisor.choice.estimate import Estimate
from advisor.machine import Basis, Record
from advisor.money.cost import HostedPrice, Price, hosted_prices, per_million
from advisor.prediction import concurrency
from advisor.prediction.speed import Speed

SCHEMA: Final = "advisor.cost/1"
USERS = (1, 2, 4, 8, 16)
HOURS = 24.0

Drafting = Literal["plain", "drafted"]


class Line(Record, frozen=True, kw_only=True):
    """One way to run it. Money is per million tokens. `tokens_per_s`: of all users together."""

    drafting: Drafting
    users: int
    tokens_per_s: float
    prompt_tokens_per_s: float
    per_million_out: float
    per_million_in: float
    basis: Basis


class BreakEven(Record, frozen=True, kw_only=True):
    """Against one service. `hours`: of work a day from which the machine is cheaper, paid for the whole day; None:
    never. `busy_ratio`: its price for the same tokens over this machine's, both at work all the time."""

    price: HostedPrice
    drafting: Drafting
    hours: float | None
    busy_ratio: float


class Economics(Record, frozen=True, kw_only=True):
    """`saving`: share of the money for an answer that the drafter saves. `note`: what the figures do not say."""

    price: Price
    depth_tokens: int
    answer_share: float
    lines: tuple[Line, ...]
    saving: float
    break_even: tuple[BreakEven, ...]
    notes: tuple[str, ...]


def economics(found: Estimate, price: Price, *, answer_share: float = 0.25, always_paid: bool = True) -> Economics:
    """Costs of a configuration.

    Args:
        found: with its speed.
        answer_share: of all tokens, those that are written; the rest is read. A chat reads about three times as much as
            it writes, because each turn brings the last ones along.
        always_paid: the hour costs also while nothing is asked: rented or bought. Electricity alone does not.

    Raises:
        ValueError: the estimate has no speed.
    """
    speed = found.speed
    if speed is None:
        raise ValueError("no speed")
    basis = basis_of(speed)
    kinds: tuple[Drafting, ...] = ("plain", "drafted") if found.draft and speed.drafter_gain != 1 else ("plain",)
    batches = found.question.backend.name in concurrency.BATCHING
    on_gpu = found.placement.mode == "gpu"
    lines = tuple(
        line(speed, price, kind, users, on_gpu=on_gpu, basis=basis if users == 1 else "assumed")
        for kind in kinds
        for users in (USERS if batches else (1,))
    )
    alone = {each.drafting: each for each in lines if each.users == 1}
    model = found.subject.profile.id if found.subject.profile else ""
    services = [each for each in hosted_prices() if each.model == model and each.currency == price.currency]
    return Economics(
        price=price,
        depth_tokens=speed.depth_tokens,
        answer_share=answer_share,
        lines=lines,
        saving=1 - alone["drafted"].per_million_out / alone["plain"].per_million_out if "drafted" in alone else 0.0,
        break_even=tuple(
            even(each, service, price, answer_share, always_paid=always_paid)
            for each in alone.values()
            for service in services
        ),
        notes=tuple(notes(found, price, batches=batches, services=bool(services), always_paid=always_paid)),
    )


def basis_of(speed: Speed) -> Basis:
    if speed.evidence is None or speed.evidence.kin != "measured":
        return "formula"
    return "catalogue" if speed.evidence.shared else "measured"


def line(speed: Speed, price: Price, kind: Drafting, users: int, *, on_gpu: bool, basis: Basis) -> Line:
    """Several at once share a step, which becomes longer; with drafts in it too, the rows of all are verified."""
    step = concurrency.assumed(on_gpu=on_gpu)
    rate = concurrency.rate(speed.plain, step, users)
    if kind == "drafted":
        rate *= concurrency.gain(speed.drafter_gain, step, users, speed.draft_tokens)
    return Line(
        drafting=kind,
        users=users,
        tokens_per_s=rate,
        prompt_tokens_per_s=speed.prefill,
        per_million_out=per_million(price.per_hour, rate),
        per_million_in=per_million(price.per_hour, speed.prefill),
        basis=basis,
    )


def even(alone: Line, service: HostedPrice, price: Price, answer_share: float, *, always_paid: bool) -> BreakEven:
    """From how many hours of work a day on the machine is as cheap as the service."""
    seconds = answer_share / alone.tokens_per_s + (1 - answer_share) / alone.prompt_tokens_per_s
    theirs = answer_share * service.output + (1 - answer_share) * service.input
    ours = per_million(price.per_hour, 1 / seconds)
    ratio = theirs / ours if ours else float("inf")
    hours: float | None = HOURS / ratio if ratio else None
    if not always_paid:
        hours = 0.0 if ratio >= 1 else None
    return BreakEven(
        price=service,
        drafting=alone.drafting,
        hours=hours if hours is not None and hours <= HOURS else None,
        busy_ratio=ratio,
    )


def notes(found: Estimate, price: Price, *, batches: bool, services: bool, always_paid: bool) -> list[str]:
    told = [
        price.said,
        "assumes work all the time, at one depth of context; reading prompts has a price of its own"
        + ("" if always_paid else "; idle time costs nothing"),
    ]
    if batches:
        told.append("several users at once are computed, not measured, and each one's cache takes memory of its own")
    else:
        told.append(f"{found.question.backend.name} answers one user at a time: more users wait, at the same cost")
    if not services:
        told.append("no hosted price in this currency is known for this model (profiles/hosted_prices.yaml)")
    if found.speed and found.speed.evidence:
        told.append(found.speed.evidence.reason)
    return told
