"""The wizard as text: the same questions, answers and files, line by line, for screen readers and dumb terminals."""

from __future__ import annotations

from typing import cast, get_args

import click
import msgspec

from advisor.choice.candidates import Prefer
from advisor.errors import AdvisorError, unknown_name
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.memory.placement import in_words
from advisor.tui import words
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from advisor.tui.state import Answer, Choice, answer

ACTIONS = {
    "1": "run it: shows the files first",
    "2": "use case",
    "3": "context",
    "4": "quality or speed",
    "5": "another machine",
    "6": "backends",
    "q": "quit",
}


def converse(options: Settings, services: Services | None = None) -> tuple[str, ...] | None:
    """Ask until something is confirmed; the command line to go on with, or None."""
    world = services or Services()
    click.echo("Looking at this machine.")
    machine = world.detect()
    choice = Choice(use_case=options.use_case, prefer=options.prefer)
    while True:
        found = told(choice, machine)
        for key, meaning in ACTIONS.items():
            click.echo(f"{key}  {meaning}")
        key = click.prompt("What next", default="1" if found else "2", show_default=True).strip().lower()
        if key == "q":
            return None
        if key == "1" and found and (argv := confirmed(found, world)):
            return argv
        if key == "6":
            backends(choice, machine)
        elif key in QUESTIONS:
            choice = asked(key, choice, machine)
        elif key not in ACTIONS:
            click.echo(f"{key!r} is none of {', '.join(ACTIONS)}.")


def told(choice: Choice, machine: Machine) -> Answer | None:
    """Say the answer; None where there is none."""
    try:
        found = answer(choice, machine, catalog.load())
    except AdvisorError as error:
        click.echo(f"No answer: {error.message}. {error.hint}")
        return None
    for line in spoken(found):
        click.echo(line)
    return found


def spoken(found: Answer) -> list[str]:
    """The answer in sentences: no bars, no columns."""
    pick, held = found.pick, found.ranking.machine
    lines = ["", f"Machine: {words.origin(held, found.choice)}."]
    lines += [f"{hold.name}: {words.of_total(hold.held, hold.total)} in use." for hold in words.holds(held)]
    speed = pick.speed
    lines += [
        f"The answer: {pick.name}, {words.subtitle(pick)}, {words.purpose(found.document)}.",
        f"Speed: {speed.decode_tokens_per_s:.0f} tokens per second, between {speed.low:.0f} and {speed.high:.0f}.",
    ]
    if pick.drafter.enabled:
        lines.append(f"Without the drafter: {speed.plain_tokens_per_s:.0f} tokens per second.")
    for room in words.rooms(found):
        parts = ", ".join(f"{name} {in_words(size)}" for name, size in room.parts)
        lines.append(f"{room.name}: {words.of_total(room.used, room.total)}: {parts}.")
    lines += [f"Why: {reason}." for reason in pick.reasons]
    lines += [f"Note: {warning}." for warning in pick.warnings]
    return [*lines, f"The same from the shell: {found.choice.line}", ""]


def asked(key: str, choice: Choice, machine: Machine) -> Choice:
    """Ask one question; the choice stays as it was where the reply means nothing."""
    try:
        changed = QUESTIONS[key](choice)
        answer(changed, machine, catalog.load())
    except AdvisorError as error:
        click.echo(f"{error.message}. {error.hint}")
        return choice
    return changed


def ask_use_case(choice: Choice) -> Choice:
    known = catalog.load().use_cases
    for one in known.values():
        click.echo(f"{one.id}: {one.summary}")
    name = click.prompt("Use case", default=choice.use_case)
    return msgspec.structs.replace(choice, use_case=catalog.load().use_case(name).id)


def ask_context(choice: Choice) -> Choice:
    tokens = click.prompt(
        "Tokens of context, 0 for what the use case needs", default=choice.context_tokens or 0, type=int
    )
    return msgspec.structs.replace(choice, context_tokens=tokens or None)


def ask_preference(choice: Choice) -> Choice:
    name = click.prompt("balanced, quality or speed", default=choice.prefer or "balanced").strip().lower()
    if name not in get_args(Prefer):
        raise unknown_name("preference", name, get_args(Prefer))
    return msgspec.structs.replace(choice, prefer=cast(Prefer, name))


def ask_machine(choice: Choice) -> Choice:
    spec = click.prompt("Machine, such as RTX 4090, 64GB; nothing for this one", default=choice.spec or "")
    return msgspec.structs.replace(choice, spec=spec.strip() or None)


QUESTIONS = {"2": ask_use_case, "3": ask_context, "4": ask_preference, "5": ask_machine}


def backends(choice: Choice, machine: Machine) -> None:
    """What can run it here, what each would do, and what the others need."""
    from advisor.tui.prospects import prospects  # noqa: PLC0415 - where they are asked for

    for one in prospects(choice, machine):
        said = [f"{one.backend.name}: {'; '.join(filter(None, (one.state, one.helps)))}."]
        said += [f"{'Does' if one.ready else 'Would do'}: {one.does}."] if one.does else []
        said += [f"Command: {one.command}"] if one.command else []
        click.echo(" ".join(said))


def confirmed(found: Answer, world: Services) -> tuple[str, ...] | None:
    """Name the files, and ask; nothing is fetched before a yes."""
    from advisor.tui.errand import errand  # noqa: PLC0415 - it knows where files are kept

    order = errand(found, world)
    for line in order.lines:
        click.echo(line)
    if not found.choice.here:
        click.echo("That machine is not this one, so nothing can be started here.")
        return None
    return order.argv if click.confirm(f"Run {found.pick.command}", default=False) else None
