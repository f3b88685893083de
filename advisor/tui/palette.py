"""What the command palette offers: only what is possible now."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from advisor.knowledge import catalog
from advisor.pages.terminal import rate
from advisor.tui.route import ROUTE
from advisor.tui.step import Step

if TYPE_CHECKING:
    from advisor.running.sessions import Session
    from advisor.tui.app import Wizard


def entries(app: Wizard) -> Iterator[SystemCommand]:
    """Steps first, then other answers, then the rest."""
    yield from steps(app)
    yield from answers(app)
    yield from questions(app)
    if app.live is not None:
        name = app.live.session.name
        yield SystemCommand(f"Stop {name}", "It ends, and its memory is free again", app.action_end)
        if app.live.talk.said:
            copy = functools.partial(app.copy, app.live.talk.said[-1].answer)
            yield SystemCommand("Copy the last answer", "As it was written, in Markdown", copy)
    for session in app.talkable:
        if app.live is None or session.name != app.live.session.name:
            to = functools.partial(turn_to, app, session)
            yield SystemCommand(f"Talk to {session.name}", "It runs already", functools.partial(to, "chat"))
            yield SystemCommand(f"Try {session.name}", "With and without its drafter", functools.partial(to, "trial"))
            stop = functools.partial(app.stop, session)
            yield SystemCommand(f"Stop {session.name}", "It ends, and its memory is free again", stop)
    yield SystemCommand("Try the demo", "A tiny Gemma 4 that is here already, with its drafter", app.action_demo)
    for session in app.sessions:
        copy = functools.partial(app.copy, session.base_url)
        yield SystemCommand(f"Copy the endpoint of {session.name}", session.base_url, copy)
    yield SystemCommand("Copy the command line", "What to type for what is shown", app.action_copy_line)
    yield SystemCommand("Help", "What the focused part does, and its keys", app.action_help)


def turn_to(app: Wizard, session: Session, step: str) -> None:
    app.join(session)
    app.action_go(step)


def steps(app: Wizard) -> Iterator[SystemCommand]:
    here = app.screen.STEP if isinstance(app.screen, Step) else ""
    for place in ROUTE:
        if place.id != here and app.may_go(place.id):
            yield SystemCommand(
                f"Go to {place.title}", "A step of the wizard", functools.partial(app.action_go, place.id)
            )


def answers(app: Wizard) -> Iterator[SystemCommand]:
    """The alternatives to the pick, and the way back to it."""
    if app.choice.model is not None:
        yield SystemCommand("Leave the choice to advisor", "Return to the pick", app.action_unpick)
    if app.answer is None:
        return
    mine = (app.answer.candidate.model.id, app.answer.candidate.quant.name)
    for entry in app.answer.field.recommendations:
        one = entry.candidate
        if (one.model.id, one.quant.name) != mine:
            take = functools.partial(app.choose, model=one.model.id, quant=one.quant.name)
            said = f"{one.quant.name}, {rate(one.speed.decode)} tok/s, quality {one.quality:.0f}"
            yield SystemCommand(f"Use {one.model.name} instead", said, take)


def questions(app: Wizard) -> Iterator[SystemCommand]:
    """Use cases, the drafter, the machine."""
    for case in catalog.load().use_cases.values():
        if case.id != app.choice.use_case:
            take = functools.partial(app.choose, use_case=case.id)
            yield SystemCommand(f"For {case.id}", case.summary[:1].upper() + case.summary[1:], take)
    title, said = ("Without drafter", "Plain decoding") if app.choice.drafter else ("With drafter", "Where it pays")
    yield SystemCommand(title, said, functools.partial(app.choose, drafter=not app.choice.drafter))
    yield SystemCommand("Correct the machine", "Another GPU, less memory, another machine", app.action_machine)
    if app.choice.spec or app.choice.gpu or app.choice.memory:
        back = functools.partial(app.choose, spec=None, gpu=None, memory=None)
        yield SystemCommand("The machine as detected", "Forget what was corrected or described", back)
    if app.detected is not None and app.choice.here:
        yield SystemCommand("Calibrate", "Measure for a minute what drafting costs here", app.action_calibrate)
    yield SystemCommand("Look again", "Detect the machine once more", app.look)
