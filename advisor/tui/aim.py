"""What a summary is about where that is not the answer: the demo, or a runtime whose speed is not predicted."""

from __future__ import annotations

import functools
from collections.abc import Callable

from advisor.machine import Record
from advisor.running.order import DEMO, NATIVE, Order
from advisor.tui.errand import ELSEWHERE, Errand, ordered
from advisor.tui.services import Services

EMBEDDED = "part of advisor"
"""Where the demo's files are from."""


class Aim(Record, frozen=True, kw_only=True):
    """`title` and `said`: what it would be. `look`: its errand; takes as long as looking for files does.
    `obstacle`: why it cannot be started here, empty where it can."""

    title: str
    said: str
    look: Callable[[Services], Errand]
    obstacle: str = ""


def demo(backend: str = NATIVE, *, here: bool = True) -> Aim:
    """The embedded pair: nothing to fetch, and it fits everywhere.

    Args:
        backend: what runs it.
        here: whether that is about this machine; the native engine always is.
    """
    name = "the native engine" if backend == NATIVE else backend
    return Aim(
        title="The demo",
        said=f"A tiny Gemma 4 with its drafter, on {name}\nIt shows how all this works, and knows little else",
        look=lambda _: embedded(Order(model=DEMO, backend=None if backend == NATIVE else backend)),
        obstacle="" if here or backend == NATIVE else ELSEWHERE,
    )


def embedded(wanted: Order) -> Errand:
    """The errand of the embedded pair.

    Raises:
        RuntimeFailed: this installation is incomplete.
    """
    from advisor.files.store import File, Role  # noqa: PLC0415
    from advisor.running.demo import pair  # noqa: PLC0415

    found = pair()
    roles: tuple[Role, ...] = ("target", "drafter")
    paths = dict(zip(roles, (found.target, found.drafter), strict=True))
    files = tuple(
        File(role=role, repo="", file=path.name, size=path.stat().st_size, path=path, source=EMBEDDED)
        for role, path in paths.items()
        if path is not None
    )
    return Errand(files=files, missing=0, free=0, folder="", licence="Apache-2.0", command=wanted.typed())


def checkpoint(command: str, does: str, *, here: bool) -> Aim:
    """What a runtime that reads checkpoints would run.

    Args:
        command: what launches it.
        does: what that is, in a sentence.
        here: whether it is about this machine.
    """
    what, _, more = does.partition("; ")
    return Aim(
        title=what,
        said=more,
        look=functools.partial(ordered, command),
        obstacle="" if here else ELSEWHERE,
    )
