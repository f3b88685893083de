"""The embedded pair, and the comparison that says whether its drafter pays on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from advisor.errors import RuntimeFailed
from advisor.machine import Record
from advisor.running.client import Done, Text, Timings
from backends.base import Model

NAME = "demo"
QUESTION = "Which model fits 16 GB?"
CONTEXT = 2048
DRAFT_TOKENS = 3
ANSWER_TOKENS = 256
PAIRS = 7
"""Runs of each kind that are compared; they take turns, so that a busy moment hits both."""


Events = Iterator[Text | Done]
Ask = Callable[[int], Events]
"""Asks a question with that many drafted tokens a round."""


class Answer(Record, frozen=True, kw_only=True):
    """One whole answer. `thought`: the reasoning before it."""

    text: str
    thought: str
    reason: str
    timings: Timings


class Comparison(Record, frozen=True, kw_only=True):
    """Medians in tokens per second over `pairs` runs of each kind; `gain` is the median of the paired ratios."""

    plain: float
    drafted: float
    gain: float
    pairs: int
    timings: Timings
    """Of one drafted run: what was drafted and accepted."""
    same_text: bool


def pair(*, drafter: bool = True) -> Model:
    """The embedded pair.

    Raises:
        RuntimeFailed: this installation is incomplete.
    """
    folder = Path(str(files("profiles"))) / "demo"
    target, draft = folder / "demo.gguf", folder / "demo-drafter.gguf"
    missing = [file for file in (target, draft) if not file.is_file()]
    if missing:
        raise RuntimeFailed(f"the embedded model is missing: {missing[0]}", hint="install advisor again")
    return Model(
        name=NAME,
        target=target,
        drafter=draft if drafter else None,
        draft_tokens=DRAFT_TOKENS if drafter else 0,
        context_tokens=CONTEXT,
    )


def collect(events: Events, show: Callable[[Text], None] = lambda _: None) -> Answer:
    """Read an answer to its end, passing on each piece as it comes."""
    said: list[str] = []
    thought: list[str] = []
    for event in events:
        if isinstance(event, Done):
            return Answer(text="".join(said), thought="".join(thought), reason=event.reason, timings=event.timings)
        (thought if event.thought else said).append(event.text)
        show(event)
    raise RuntimeFailed("the server ended the answer without saying so")


def compare(ask: Ask, *, draft_tokens: int = DRAFT_TOKENS, pairs: int = PAIRS) -> Comparison:
    """Ask the same with and without the drafter, `pairs` times each in turn, on one server.

    Raises:
        RuntimeFailed: the server failed, or does not say how fast it was.
    """

    def once(drafts: int) -> Answer:
        return collect(ask(drafts))

    once(draft_tokens)  # the first run pays for what later runs reuse
    runs = [(once(0), once(draft_tokens)) for _ in range(pairs)]
    speeds = [(speed(plain), speed(drafted)) for plain, drafted in runs]
    return Comparison(
        plain=statistics.median(plain for plain, _ in speeds),
        drafted=statistics.median(drafted for _, drafted in speeds),
        gain=statistics.median(drafted / plain for plain, drafted in speeds),
        pairs=pairs,
        timings=runs[-1][1].timings,
        same_text=all(plain.text == drafted.text for plain, drafted in runs),
    )


def speed(answer: Answer) -> float:
    """Tokens per second of one answer.

    Raises:
        RuntimeFailed: the server did not say.
    """
    rate = answer.timings.predicted_per_second
    if not rate:
        raise RuntimeFailed("the answer is too short to measure its speed", hint="ask something longer")
    return rate
