"""What a rule is: a function that demands one thing of a backend, and how its verdict looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from advisor.errors import AdvisorError
from advisor.machine import Record

if TYPE_CHECKING:
    from backends.conformance.bench import Bench

R = TypeVar("R", bound=Record)

Status = Literal["pass", "fail", "skip"]
Verdict = Literal["conforms", "fails", "untried"]

Rule = Callable[["Bench"], "str | None"]
"""Returns quietly, or with a remark; the first sentence of its docstring says what it demands."""


class Broken(Exception):
    """The backend breaks the rule; the text says how."""


class Skipped(Exception):
    """The rule could not be tried; the text says why."""


class Late(Exception):
    """It took too long."""


class Result(Record, frozen=True, kw_only=True):
    """What became of one rule. `reason`: why it failed or was skipped, or a remark."""

    name: str
    demand: str
    status: Status
    reason: str = ""
    seconds: float = 0.0


def name_of(rule: Rule) -> str:
    """The rule's name as it is shown and waived: `stop_frees` is `stop-frees`."""
    return str(getattr(rule, "__name__", "")).replace("_", "-")


def demand_of(rule: Rule) -> str:
    """The one sentence that says what it demands."""
    return " ".join((rule.__doc__ or "").partition("\n\n")[0].split())


def judged(rule: Rule, attempt: Callable[[], str | None], limit_s: float) -> Result:
    """What came of an attempt at a rule. Whatever it raises that is no verdict is the backend's fault."""
    status: Status = "fail"
    begun = time.monotonic()
    try:
        reason = attempt() or ""
        status = "pass"
    except Skipped as why:
        status, reason = "skip", str(why)
    except Broken as how:
        reason = str(how)
    except Late:
        reason = f"not done within {limit_s:g} s"
    except AdvisorError as error:
        reason = error.message
    except Exception as error:  # noqa: BLE001 - methods of a backend raise AdvisorErrors only
        reason = f"raised {type(error).__name__}: {error}"
    seconds = round(time.monotonic() - begun, 3)
    return Result(name=name_of(rule), demand=demand_of(rule), status=status, reason=reason, seconds=seconds)


def require(condition: object, otherwise: str) -> None:
    """Raise `Broken` unless the condition holds."""
    if not condition:
        raise Broken(otherwise)


def copied(record: R) -> R:
    """The record after a way through JSON.

    Raises:
        TypeError, ValueError: it holds something that has no place in JSON.
    """

    def text(value: object) -> str:
        if isinstance(value, Path):
            return str(value)
        raise TypeError(f"{value!r} has no place in JSON")

    data = msgspec.json.encode(record, enc_hook=text)
    return msgspec.json.decode(data, type=type(record), dec_hook=lambda kind, value: kind(value))
