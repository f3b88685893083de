"""Step 3: what can run it here, what each would make of it, and what the others need."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Button, Label, OptionList
from textual.widgets.option_list import Option

from advisor import catalog
from advisor.commands.detect import backend_text
from advisor.errors import AdvisorError
from advisor.machine import Availability, Machine
from advisor.request import BUILT_IN_BACKENDS, assumed_backend
from advisor.terminal import rate
from advisor.tui.background import background
from advisor.tui.state import Answer, Choice, answer
from advisor.tui.step import Step
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.options import Options

BEST = "best"
INDENT = "  "

Prospect = tuple[Availability, str]
"""A backend, and what it would do in a sentence."""


class BackendList(Options):
    """Enter or a click takes one."""

    HELP = """
What runs the model. **Enter** or a click takes one; the answer is reckoned anew for it, because not every backend uses
the GPU or runs Gemma's drafter. One that is not ready says what it needs.
"""


class BackendStep(Step):
    """Those that can run it here, and what the others need."""

    STEP = "backend"
    AUTO_FOCUS = "BackendList"

    def body(self) -> ComposeResult:
        yield Label("What runs it", classes="title")
        yield BackendList()

    def actions(self) -> ComposeResult:
        yield Forward("Summary", action="app.go('summary')")
        yield Button("Back", compact=True, action="app.back")

    def on_mount(self) -> None:
        super().on_mount()
        self.prospects: Sequence[Prospect] = ()

    def on_resize(self) -> None:
        if self.prospects:
            self.call_after_refresh(self.list_prospects, self.prospects)

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
        width = listing.scrollable_content_region.width
        at = listing.highlighted
        chosen = self.wizard.choice.backend
        used = self.wizard.answer.pick.backend if self.wizard.answer else ""
        listing.clear_options()
        best = Content.assemble(mark(chosen is None), ("The best one", "bold"), f"\n  {used or 'none'} at present")
        listing.add_option(Option(best, id=BEST))
        for backend, prospect in found:
            listing.add_option(None)
            listing.add_option(Option(card(backend, prospect, width, taken=backend.name == chosen), id=backend.name))
        listing.highlighted = at if at is not None else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        name = event.option.id
        self.wizard.choose(backend=None if name == BEST else name)


def prospects(choice: Choice, detected: Machine | None) -> list[Prospect]:
    """Each backend of the machine, those that are ready first, with what it would do."""
    here = detected.backends if choice.here and detected is not None else ()
    known = here or tuple(assumed_backend(name) for name in BUILT_IN_BACKENDS)
    ordered = sorted(known, key=lambda one: not one.available)
    return [(one, prospect(one, choice, detected)) for one in ordered]


def prospect(backend: Availability, choice: Choice, detected: Machine | None) -> str:
    """What it would run and how fast; why not, where it would run nothing."""
    if not backend.available:
        return ""
    try:
        found = answer(msgspec.structs.replace(choice, backend=backend.name), detected, catalog.load())
    except AdvisorError as error:
        return error.message
    pick = found.pick
    where = {"gpu": "on the GPU", "cpu": "on the processor"}.get(pick.placement.mode, "on GPU and processor")
    return f"{pick.name} {pick.quant} {where}, about {rate(pick.speed.decode_tokens_per_s)} tok/s"


def mark(taken: bool) -> Content:
    return Content.assemble(("●" if taken else "○", "$success" if taken else "$foreground-muted"), " ")


def card(backend: Availability, prospect: str, width: int, *, taken: bool) -> Content:
    """A backend in a few lines of so many columns."""
    said = backend_text(backend).removeprefix(backend.name).strip(": ")
    if not backend.available:
        lines = [("not ready: " + said, "$text-warning")] + ([(backend.hint, "")] if backend.hint else [])
    else:
        lines = [(said or "assumed to be current", ""), (prospect, "")]
        lines += [(backend.path, "$foreground-muted")] if backend.path else []
    below = [part for line in lines for part in Content.styled(*line).wrap(max(12, width - len(INDENT)))]
    return Content("\n").join(
        [Content.assemble(mark(taken), (backend.name, "bold")), *(Content.assemble(INDENT, part) for part in below)]
    )
