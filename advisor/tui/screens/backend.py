"""Step 3: what can run it here, what each would make of it, and what the others need."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from textwrap import shorten
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Label, OptionList
from textual.widgets.option_list import Option

from advisor.errors import AdvisorError
from advisor.knowledge import catalog
from advisor.tui import aim
from advisor.tui.background import background, notify
from advisor.tui.prospects import Prospect, prospects
from advisor.tui.state import Answer
from advisor.tui.step import Step
from advisor.tui.widgets.facts import Fact, Facts
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.options import Options

BEST = "best"
NAME, VERSION, BRIEF = 14, 10, 46
"""Columns, as many as a narrow terminal has."""


class BackendList(Options):
    """Enter or a click takes one."""

    HELP = """
What runs the model. **Enter** or a click takes one; the answer is reckoned anew for it, because not every backend uses
the GPU or runs Gemma's drafter. Below is what the one under the cursor would do and what it lacks: `y` copies the
command line that launches or mends it, `x` starts a server that only has to be started.

Of runtimes that read checkpoints no speed is predicted, so none of them becomes the answer: **Enter** leads to the
summary of what it would run. `d` leads to that of the demo, on the one under the cursor.
"""


class BackendStep(Step):
    """Those that can run it here, and what the others need."""

    STEP = "backend"
    AUTO_FOCUS = "BackendList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "y", "copy", "Copy command", tooltip="The command line that launches or mends the one under the cursor"
        ),
        Binding("x", "serve", "Start it", tooltip="Start its server; you are asked first"),
        Binding("d", "demo", "Demo", show=False, tooltip="The demo on the one under the cursor: a tiny Gemma 4"),
        Binding("r", "app.look", "Look again", show=False, tooltip="Detect the machine and its backends once more"),
    ]

    def body(self) -> ComposeResult:
        yield Label("What runs it", classes="title")
        yield BackendList()
        yield Facts(id="prospect")

    def actions(self) -> ComposeResult:
        yield Forward("Summary", action="app.go('summary')")
        yield Button("Copy command", compact=True, action="screen.copy", id="copy")
        yield Button("Start it", compact=True, action="screen.serve", id="serve")
        yield Button("Demo", compact=True, action="screen.demo", id="demo")
        yield Button("Look again", compact=True, action="app.look")
        yield Button("Back", compact=True, action="app.back")

    def __init__(self) -> None:
        super().__init__()
        self.prospects: Sequence[Prospect] = ()

    # ---- Showing

    def show(self, answer: Answer) -> None:
        self.line = f"advisor backends; {answer.choice.line}"
        self.look()

    def show_trouble(self, error: AdvisorError) -> None:  # noqa: ARG002 - said in step 1
        self.line = "advisor backends"
        self.look()

    def look(self) -> None:
        """Ask the core what each backend would do."""
        work = functools.partial(prospects, self.wizard.choice, self.wizard.detected)
        background(self, work, self.list_prospects, group="prospects")

    def list_prospects(self, found: Sequence[Prospect]) -> None:
        self.prospects = found
        listing = self.query_one(BackendList)
        at = listing.highlighted
        chosen = self.wizard.choice.backend
        used = self.wizard.answer.pick.backend if self.wizard.answer else "none"
        listing.clear_options()
        listing.add_option(Option(row("●" if chosen is None else "○", "The best one", "", used), id=BEST))
        for one in found:
            listing.add_option(Option(line(one, taken=one.backend.name == chosen), id=one.backend.name))
        listing.highlighted = min(at or 0, len(found))
        self.tell()

    @property
    def prospect(self) -> Prospect | None:
        """Of the backend under the cursor; of the one that is used, where that is left to advisor."""
        place = self.query_one(BackendList).highlighted
        if place:
            return self.prospects[place - 1] if place <= len(self.prospects) else None
        used = self.wizard.answer.pick.backend if self.wizard.answer else ""
        return next((one for one in self.prospects if one.backend.name == used), None)

    def tell(self) -> None:
        """What is said of it, and what can be done about it."""
        one = self.prospect
        self.query_one("#prospect", Facts).facts = facts(one) if one else ()
        self.query_one("#copy", Button).disabled = one is None or not one.command
        self.query_one("#serve", Button).display = one is not None and one.serves
        self.query_one("#demo", Button).disabled = one is None or not one.shows
        self.refresh_bindings()

    def on_option_list_option_highlighted(self) -> None:
        self.tell()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("copy", "serve", "demo"):
            one = self.prospect if self.is_open else None
            return one is not None and {"copy": bool(one.command), "serve": one.serves, "demo": one.shows}[action]
        return super().check_action(action, parameters)

    # ---- Doing

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option.id == BEST:
            self.wizard.choose(backend=None)
            return
        one = next(one for one in self.prospects if one.backend.name == event.option.id)
        if one.takes:
            self.wizard.choose(backend=one.backend.name)
        elif one.launches:
            self.wizard.sum_up(aim.checkpoint(one.command, one.does, here=self.wizard.choice.here))
        else:
            self.notify(refusal(one), title=f"{one.backend.name} is not taken", severity="warning", markup=False)

    def action_copy(self) -> None:
        """The command line of the one under the cursor."""
        if self.prospect is not None and self.prospect.command:
            self.wizard.copy(self.prospect.command)

    def action_demo(self) -> None:
        """The demo on the one under the cursor."""
        if self.prospect is not None and self.prospect.shows:
            self.wizard.sum_up(aim.demo(self.prospect.backend.name, here=self.wizard.choice.here))

    def action_serve(self) -> None:
        """Start its server, once that is confirmed."""
        from advisor.tui.screens.confirm import Confirm  # noqa: PLC0415

        one = self.prospect
        if one is None or not one.serves:
            return
        name = one.backend.name
        meaning: tuple[Fact, ...] = (
            ("Starts", f"{one.backend.path}, as its own command does"),
            ("Afterwards", "it goes on running when the wizard is left"),
        )

        def confirmed(yes: bool | None) -> None:
            if yes:
                work = functools.partial(self.wizard.services.serve, name)
                background(self, work, lambda _: self.served(name), group="serve", otherwise=self.unserved)

        self.app.push_screen(Confirm(f"Start {name}'s server", meaning, yes="Start it", line=one.command), confirmed)

    def served(self, name: str) -> None:
        self.notify(f"{name} answers", markup=False)
        self.wizard.look()

    def unserved(self, error: AdvisorError) -> None:
        notify(self, error)
        self.wizard.look()


def refusal(one: Prospect) -> str:
    """Why it is not taken, and what to do."""
    if one.ready:
        return f"{one.does[:1].upper()}{one.does[1:]}." + (" d tries the demo on it." if one.shows else "")
    return f"{one.state}. " + ("x starts it." if one.serves else "y copies what mends it." if one.command else "")


def facts(one: Prospect) -> tuple[Fact, ...]:
    """What it would do, what is missing, what helps."""
    backend = one.backend
    runtime = catalog.load().runtimes.get(backend.name)
    found = [
        ("Does" if one.ready else "Would do", one.does),
        ("State", one.state),
        ("Needs", runtime.needs if runtime else ""),
        ("What helps", one.helps),
        ("Command", one.command),
        ("Where", backend.path or ""),
    ]
    return tuple((label, text) for label, text in found if text)


def line(one: Prospect, *, taken: bool) -> Content:
    """A backend in a line: whether it is taken, ready or missing, its version, and what it would do."""
    backend = one.backend
    mark = "●" if taken else "○" if one.ready else "✗"
    return row(mark, backend.name, backend.version or "", shorten(one.brief, BRIEF, placeholder=" ..."))


def row(mark: str, name: str, version: str, said: str) -> Content:
    colour = {"●": "$success", "✗": "$text-warning"}.get(mark, "$foreground-muted")
    style = "$foreground-muted" if mark == "✗" else ""
    return Content.assemble(
        (mark, colour), " ", (f"{name:<{NAME}}", "bold"), (f"{version:<{VERSION}} ", "$foreground-muted"), (said, style)
    )
