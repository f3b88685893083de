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
from advisor.running.order import NATIVE
from advisor.tui import aim, words
from advisor.tui.aim import Aim
from advisor.tui.errand import Errand, errand, in_the_way, shortage
from advisor.tui.prospects import Prospect, prospects
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from advisor.tui.state import Answer, Choice, answer

ACTIONS = {
    "1": "run it: shows the files first",
    "2": "use case",
    "3": "context",
    "4": "quality or speed",
    "5": "another machine",
    "6": "backends: what can run it, and which one does",
    "7": "demo: a tiny Gemma 4 that is here already, with its drafter",
    "q": "quit",
}
BEST = "best"
Argv = tuple[str, ...]


def converse(options: Settings, services: Services | None = None) -> Argv | None:
    """Ask until something is confirmed; the command line to go on with, or None."""
    try:
        return Conversation(options, services or Services()).run()
    except click.Abort as raised:
        # click makes this of both: ctrl-c interrupts, the end of the input only ends.
        if not isinstance(raised.__context__, EOFError):
            raise
    click.echo("\nThe input has ended, and nothing was started.")
    return None


class Conversation:
    """What has been chosen so far, and the next question."""

    def __init__(self, options: Settings, world: Services) -> None:
        self.world = world
        self.choice = Choice(use_case=options.use_case, prefer=options.prefer)

    def run(self) -> Argv | None:
        """Until something is confirmed, or nothing is wanted.

        Raises:
            AdvisorError: as `detect`.
            click.Abort: ctrl-c, or no more input.
        """
        self.look()
        while True:
            found = told(self.choice, self.machine)
            for key, meaning in ACTIONS.items():
                click.echo(f"{key}  {meaning}")
            key = click.prompt("What next", default="1" if found else "2").strip().lower()
            if key == "q":
                return None
            try:
                argv = self.obey(key, found)
            except AdvisorError as error:
                argv = None
                click.echo(f"{error.message}. {error.hint}")
            if argv:
                return argv

    def look(self) -> None:
        """Look at this machine, once more or for the first time."""
        click.echo("Looking at this machine.")
        self.machine = self.world.detect()

    def obey(self, key: str, found: Answer | None) -> Argv | None:
        """Do what a key stands for; the command line, where one was confirmed."""
        if key == "1" and found:
            wanted = errand(found, self.world)
            return confirmed(wanted, in_the_way(found, wanted))
        if key == "6":
            return self.take_backend()
        if key == "7":
            return self.aim_at(aim.demo(self.choice.backend or NATIVE, here=self.choice.here))
        if key in QUESTIONS:
            changed = QUESTIONS[key](self.choice)
            answer(changed, self.machine, catalog.load())
            self.choice = changed
        elif key not in ACTIONS:
            click.echo(f"{key!r} is none of {', '.join(ACTIONS)}.")
        return None

    def take_backend(self) -> Argv | None:
        """What can run it here, and what the others need; one of them is taken, or started."""
        found = {one.backend.name: one for one in prospects(self.choice, self.machine)}
        for one in found.values():
            click.echo(outlook(one))
        now = self.choice.backend or BEST
        name = click.prompt(f"Backend, or {BEST} to leave it to advisor", default=now).strip().lower()
        if name not in (BEST, *found):
            raise unknown_name("backend", name, (BEST, *found))
        if name == BEST or found[name].takes:
            self.choice = msgspec.structs.replace(self.choice, backend=None if name == BEST else name)
            return None
        one = found[name]
        if one.launches:
            return self.aim_at(aim.checkpoint(one.command, one.does, here=self.choice.here))
        if one.serves:
            self.serve(name)
        else:
            click.echo(f"{name} is not taken: {one.does if one.ready else one.state}.")
        return None

    def serve(self, name: str) -> None:
        """Start the server that a backend needs, once that is confirmed."""
        if click.confirm(f"Start {name}'s server; it goes on running", default=False):
            self.world.serve(name)
            self.look()

    def aim_at(self, wanted: Aim) -> Argv | None:
        """Something else than the answer."""
        for said in (wanted.title, *wanted.said.splitlines()):
            click.echo(f"{said[:1].upper()}{said[1:]}.")
        found = wanted.look(self.world)
        return confirmed(found, wanted.obstacle or shortage(found))


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


def outlook(one: Prospect) -> str:
    """What a backend would do, and what it needs."""
    said = [f"{one.backend.name}: {'; '.join(filter(None, (one.state, one.helps)))}."]
    said += [f"{'Does' if one.ready else 'Would do'}: {one.does}."] if one.does else []
    said += [f"Command: {one.command}"] if one.command else []
    return " ".join(said)


def confirmed(found: Errand, obstacle: str) -> Argv | None:
    """Name the files, and ask; nothing is fetched before a yes."""
    for line in found.lines:
        click.echo(line)
    if obstacle:
        click.echo(f"It cannot be started: {obstacle}. The command: {found.command}")
        return None
    return found.argv if click.confirm(f"Run {found.command}", default=False) else None
