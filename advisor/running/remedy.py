"""What to start instead of what failed: read from what its error says, so that it can be offered with one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from advisor.errors import AdvisorError, NoBackend, OutOfMemory
from advisor.running.order import NATIVE, Order

LAUNCH = "advisor launch"
SHOWING = {"--help", "--dry-run"}
"""What starts nothing."""
PLAIN, PORT, UPDATE = "--no-drafter", "--port", "update"
"""What the hints of errors say where leaving out the drafter, another port or another version would do."""


class Remedy(NamedTuple):
    """`offer`: in three words, what it would be. `command`: what starts it."""

    offer: str
    command: str


def remedy(error: AdvisorError, order: Order, backend: str = "") -> Remedy | None:
    """The next choice after a failure; None where there is nothing but trying again.

    Args:
        order: what failed.
        backend: the one that failed, where it was chosen already.
    """
    words = error.command.split()
    if error.command.startswith(LAUNCH) and not SHOWING & set(words):
        return Remedy(_words(error), error.command)
    return next((found for look in (_plain, _port, _other) if (found := look(error, order, backend))), None)


def _words(error: AdvisorError) -> str:
    if isinstance(error, OutOfMemory):
        return "Take the smaller one"
    return "Without its drafter" if PLAIN in error.command else "Do that instead"


Look = Callable[[AdvisorError, Order, str], Remedy | None]


def _plain(error: AdvisorError, order: Order, _backend: str) -> Remedy | None:
    """A drafter that does not load, belongs to another model, or is too new for the runtime."""
    if not order.drafts or PLAIN not in error.hint:
        return None
    return Remedy("Without its drafter", order.plain().typed())


def _port(error: AdvisorError, order: Order, _backend: str) -> Remedy | None:
    """A port that somebody else has."""
    if not order.port or PORT not in error.hint:
        return None
    return Remedy("On a free port", msgspec.structs.replace(order, port=0).typed())


def _other(error: AdvisorError, order: Order, backend: str) -> Remedy | None:
    """A runtime that is missing or too old."""
    if backend == NATIVE or not (isinstance(error, NoBackend) or UPDATE in error.hint):
        return None
    plain = msgspec.structs.replace(order, backend=NATIVE, kv_type="f16", parallel=1, extra=())
    return Remedy("On the own engine", plain.typed())
