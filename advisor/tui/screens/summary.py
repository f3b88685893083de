"""Step 4: what would be fetched and started. Nothing is written before this is confirmed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Button, Label, Static

from advisor.errors import AdvisorError
from advisor.tui import words
from advisor.tui.aim import EMBEDDED, Aim
from advisor.tui.background import background
from advisor.tui.errand import Errand, errand, in_the_way, place, role, shortage
from advisor.tui.state import Answer
from advisor.tui.step import Step
from advisor.tui.widgets.drawn import Drawn
from advisor.tui.widgets.facts import Fact, Facts
from advisor.tui.widgets.forward import Forward
from advisor.units import format_file_size

if TYPE_CHECKING:
    from advisor.files.store import File

ROLE, SIZE = 11, 10
AGAIN = "r looks for them again; Esc goes back"
SERVES = "OpenAI's API on 127.0.0.1, this machine only"


class Files(Drawn):
    """The files: what each is for, its size, where it is or comes from."""

    HELP = (
        "What the model needs on this disk. Files that any other program has fetched already are used where they are."
    )

    files: tuple[File, ...] = ()

    def draw(self, width: int) -> Content:
        return Content("\n").join([line for file in self.files for line in drawn(file, width)])


def drawn(file: File, width: int) -> list[Content]:
    """A file in one line where there is room, otherwise in two."""
    name, where = Path(file.file).name, place(file)
    mark = ("✓", "$text-success") if file.here else ("↓", "$text-warning")
    first = Content.assemble(
        mark, " ", (f"{role(file):<{ROLE}}", "$foreground-muted"), f"{format_file_size(file.size):>{SIZE - 2}}  ", name
    )
    if first.cell_length + 2 + len(where) <= width:
        return [Content.assemble(first, "  ", (where, "$foreground-muted"))]
    below = Content.assemble(" " * (ROLE + SIZE + 2), (where, "$foreground-muted"))
    return [first.truncate(width, ellipsis=True), below.truncate(width, ellipsis=True)]


class SummaryStep(Step):
    """Files, disk, licence and the exact command."""

    STEP = "summary"
    AUTO_FOCUS = "#forward"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "look_for_files", "Look again", show=False, tooltip="What is here, and what is to be fetched"),
    ]
    HELP = """
The last look before anything happens: **Start** fetches what is missing (it can be cancelled, and goes on where it was)
and starts the model on this machine only. **Escape** goes back.
"""

    def __init__(self, aim: Aim | None = None) -> None:
        super().__init__()
        self.aim = aim
        """What it is about in place of the answer."""

    def body(self) -> ComposeResult:
        yield Label("", id="headline", classes="headline", markup=False)
        yield Label("", id="subtitle", classes="muted", markup=False)
        with Vertical(classes="section"):
            yield Label("Files", classes="title")
            yield Files()
        with Vertical(classes="section"):
            yield Label("What it takes", classes="title")
            yield Facts(id="facts")
        yield Static("Nothing has been written yet.", classes="muted", id="promise")

    def actions(self) -> ComposeResult:
        yield Forward("Start", action="app.start", disabled=True)
        yield Button("Back", compact=True, action="app.back")

    def on_mount(self) -> None:
        if self.aim is not None:
            self.query_one("#headline", Label).update(self.aim.title)
            self.query_one("#subtitle", Label).update(self.aim.said)
            self.look_for_files()

    def look_for_files(self) -> None:
        """What is here, and what is to be fetched."""
        aim, answer, world = self.aim, self.wizard.answer, self.wizard.services
        if not self.query_one("#facts", Facts).facts:
            self.query_one("#facts", Facts).facts = (("", "Looking for the files"),)
        if aim is not None:
            work = functools.partial(aim.look, world)
            background(self, work, functools.partial(self.show_aim, aim), group="files", otherwise=self.unknown)
        elif answer is not None:
            work = functools.partial(errand, answer, world)
            background(self, work, self.show_errand, group="files", otherwise=self.unknown)

    def action_look_for_files(self) -> None:
        """Once more."""
        self.look_for_files()

    def unknown(self, error: AdvisorError) -> None:
        """What it takes cannot be found out."""
        said = [("Because", error.message), ("What helps", error.hint), ("", error.command), ("", AGAIN)]
        self.query_one("#facts", Facts).facts = tuple(fact for fact in said if fact[1])
        self.wizard.errand = None
        self.query_one(Forward).disabled = True

    def show_aim(self, aim: Aim, found: Errand) -> None:
        """The files of something else than the answer."""
        obstacle = aim.obstacle or shortage(found)
        self.show_files(found)
        self.query_one("#facts", Facts).facts = tuple(aim_facts(found, obstacle))
        self.line = found.command
        self.allow(found, obstacle)

    def show_files(self, found: Errand) -> None:
        files = self.query_one(Files)
        files.files = found.files
        files.refresh(layout=True)

    def allow(self, found: Errand, obstacle: str) -> None:
        """Let it be started, unless something is in the way."""
        start = self.query_one(Forward)
        start.disabled = bool(obstacle)
        if not obstacle and (self.focused is None or self.aim is not None):
            start.focus()
        self.wizard.errand = None if obstacle else found

    def show(self, answer: Answer) -> None:
        if self.aim is not None:
            return
        self.query_one("#headline", Label).update(answer.pick.name)
        self.query_one("#subtitle", Label).update(f"{words.subtitle(answer.pick)}\n{words.purpose(answer.document)}")
        self.line = answer.pick.command
        self.look_for_files()

    def show_errand(self, found: Errand, listed: str = "") -> None:
        """The files as far as they are known; then the repositories are asked what they list today."""
        answer = self.wizard.answer
        if answer is None or answer.pick.command != found.command:
            return
        self.show_files(found)
        obstacle = in_the_way(answer, found)
        self.query_one("#facts", Facts).facts = tuple(facts(answer, found, listed, obstacle))
        self.allow(found, obstacle)
        if not listed and found.missing and answer.choice.here:
            self.ask_repositories(answer, found)

    def ask_repositories(self, answer: Answer, known: Errand) -> None:
        """Sizes and names as they are listed today; where nobody answers, those of the catalogue stay."""

        def unanswered(error: AdvisorError) -> None:
            self.show_errand(known, f"not asked: {error.message}")

        work = functools.partial(errand, answer, self.wizard.services, ask=True)
        background(
            self, work, lambda found: self.show_errand(found, "as listed today"), group="list", otherwise=unanswered
        )


def aim_facts(found: Errand, obstacle: str) -> list[Fact]:
    """Of something else than the answer: nothing was reckoned about it."""
    own = found.files and all(one.source == EMBEDDED for one in found.files)
    said = [
        ("To fetch", fetched(found, "") if found.missing or not own else f"nothing: it is {EMBEDDED}"),
        ("Disk", disk(found) if found.missing else ""),
        ("Licence", found.licence),
        ("Serves", SERVES),
        ("In the way", obstacle),
    ]
    return [fact for fact in said if fact[1]]


def fetched(found: Errand, listed: str) -> str:
    if not found.missing:
        return "nothing: everything is here"
    return f"{format_file_size(found.missing)} from huggingface.co" + (f", {listed}" if listed else "")


def disk(found: Errand) -> str:
    """How much is free, before and after."""
    left = found.free - found.missing
    after = f", {format_file_size(left)} afterwards" if found.missing and left >= 0 else ""
    return f"{format_file_size(found.free)} free in {found.folder}{after}"


def facts(answer: Answer, found: Errand, listed: str, obstacle: str) -> list[Fact]:
    """Disk, licence, memory, and what stands in the way."""
    held = ", ".join(f"{words.of_total(room.used, room.total)} {room.name}" for room in words.rooms(answer))
    memory = held.replace("Main", "main").replace("Shared", "shared")
    said = [
        ("To fetch", fetched(found, listed)),
        ("Disk", disk(found)),
        ("Memory", memory),
        ("Licence", found.licence),
        ("Serves", SERVES),
    ]
    return [*said, ("In the way", obstacle)] if obstacle else said
