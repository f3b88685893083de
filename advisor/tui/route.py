"""The wizard's steps, in order: what they are called, and where their screens are. Imported when they are opened."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from advisor.tui.step import Step


class Place(NamedTuple):
    """A step. `title`: one word, for the line at the top. `screen`: module and class."""

    id: str
    title: str
    screen: str


ROUTE = (
    Place("answer", "Answer", "advisor.tui.screens.answer:AnswerStep"),
    Place("tune", "Tune", "advisor.tui.screens.tune:TuneStep"),
    Place("backend", "Backend", "advisor.tui.screens.backend:BackendStep"),
    Place("summary", "Summary", "advisor.tui.screens.summary:SummaryStep"),
    Place("start", "Start", "advisor.tui.screens.prepare:PrepareStep"),
    Place("trial", "Trial", "advisor.tui.screens.trial:TrialStep"),
    Place("chat", "Chat", "advisor.tui.screens.chat:ChatStep"),
)
"""A later step is one more line here, and a file in `screens/`."""


def build(step: str) -> Step:
    """A new screen for that step."""
    place = next(place for place in ROUTE if place.id == step)
    module, _, name = place.screen.partition(":")
    made: Step = getattr(importlib.import_module(module), name)()
    return made
