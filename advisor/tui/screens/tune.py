"""Step 2: what the answer depends on, with its effect; everything that was considered; the pick against another."""

from __future__ import annotations

import functools
from itertools import count, takewhile
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Label

from advisor.choice.candidates import Candidate
from advisor.choice.curves import memory_by_context, speed_by_depth
from advisor.errors import AdvisorError
from advisor.knowledge import catalog
from advisor.memory.placement import in_words
from advisor.pages.terminal import preference, rate
from advisor.tui.background import background
from advisor.tui.screens.details import Details
from advisor.tui.state import Answer, Choice, answer
from advisor.tui.step import Step
from advisor.tui.widgets.candidate_table import CandidateTable, Row
from advisor.tui.widgets.chart import Chart, Line
from advisor.tui.widgets.effect import Effect
from advisor.tui.widgets.facts import Facts
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.stepper import Choosable, Stepper

SHORTEST = 2048

QUESTIONS = {
    "use-case": ("Use case", "What it is for. It decides which benchmarks count, and how fast is fast enough."),
    "context": ("Context", "How much text it holds at once, in tokens. More takes more memory."),
    "prefer": ("Prefer", "What counts more where a better model is slower."),
}


class TuneStep(Step):
    """Use case, context, quality or speed, with their effect."""

    STEP = "tune"
    AUTO_FOCUS = "#use-case"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "view", "Charts", tooltip="Curves of speed and memory, or the table"),
        Binding("d", "details", "Details", tooltip="All about the file under the cursor"),
        Binding("u", "app.unpick", "Undo", show=False, tooltip="Leave the choice of the file to advisor again"),
    ]
    HELP = """
Three things decide: what it is for, how much text it must hold, and whether quality or speed counts more. Each change
is reckoned at once. Below is every file that was considered, and why.
"""

    def body(self) -> ComposeResult:
        with Vertical(id="questions"):
            for name, (label, text) in QUESTIONS.items():
                yield Stepper(label, text, id=name)
            yield Label("", id="note", markup=False)
        yield Effect()
        with Horizontal(id="views"):
            with Vertical(id="candidates"):
                yield CandidateTable()
                yield Facts(id="reason")
            with Vertical(id="charts"):
                yield Chart("Speed by depth, tok/s", thousands, rate, id="speed")
                yield Chart("Memory by context", thousands, lambda size: in_words(int(size)), id="memory")

    def actions(self) -> ComposeResult:
        yield Forward("Summary", action="app.go('summary')")
        yield Button("Charts", compact=True, action="screen.view", id="charts-button")
        yield Button("Details", compact=True, action="screen.details")
        yield Button("Back", compact=True, action="app.back")

    # ---- Showing

    def show(self, answer: Answer) -> None:
        self.line = answer.choice.line
        self.ask(answer)
        self.query_one(Effect).show(answer)
        self.query_one(CandidateTable).show(answer.field, answer.candidate)
        self.draw_curves()

    def show_trouble(self, error: AdvisorError) -> None:
        self.line = self.wizard.choice.line
        self.query_one(Effect).show_trouble(error)

    def ask(self, answer: Answer) -> None:
        """The three questions, as they are answered now."""
        known, asked = catalog.load(), answer.document.request
        cases = [Choosable[object](one.id, one.name, one.summary) for one in known.use_cases.values()]
        self.query_one("#use-case", Stepper).offer(cases, asked.use_case)
        own = known.use_case(asked.use_case).context_tokens
        longest = max(model.context_tokens for model in known.models.values())
        chosen = answer.choice.context_tokens
        self.query_one("#context", Stepper).offer(contexts(own, longest, chosen, asked.use_case), chosen)
        kinds = [Choosable[object](name, name, preference(name)) for name in ("speed", "balanced", "quality")]
        self.query_one("#prefer", Stepper).offer(kinds, asked.prefer)
        self.note()

    def draw_curves(self) -> None:
        """Both charts, of the pick and what it is compared with."""
        found = self.wizard.answer
        if found is not None:
            other = self.compared(found)
            background(self, functools.partial(curves, found, other), self.show_curves, group="curves")

    def compared(self, found: Answer) -> Candidate | None:
        """The file under the cursor, where it is another one that runs; else the runner-up."""
        row = self.query_one(CandidateTable).row
        mine = (found.candidate.model.id, found.candidate.quant.name)
        if row is not None and row.candidate is not None and (row.model, row.quant) != mine:
            return row.candidate
        return found.runner_up

    def show_curves(self, drawn: tuple[tuple[Line, ...], tuple[Line, ...]]) -> None:
        self.query_one("#speed", Chart).lines, self.query_one("#memory", Chart).lines = drawn

    # ---- Doing

    def on_stepper_changed(self, event: Stepper.Changed) -> None:
        names = {"use-case": "use_case", "context": "context_tokens", "prefer": "prefer"}
        self.wizard.choose(**{names[event.stepper.id or ""]: event.value})

    def on_descendant_focus(self) -> None:
        self.note()

    def note(self) -> None:
        """In a narrow terminal, what is said of the focused choice."""
        if isinstance(self.focused, Stepper):
            self.query_one("#note", Label).update(self.focused.note)

    def on_data_table_row_highlighted(self) -> None:
        row = self.query_one(CandidateTable).row
        facts = self.query_one("#reason", Facts)
        facts.facts = ((f"{row.name}", row.reason),) if row else ()
        if self.charts_shown:
            self.draw_curves()

    def on_data_table_row_selected(self) -> None:
        row = self.query_one(CandidateTable).row
        if row is None:
            return
        if row.candidate is None:
            self.show_details(row, None)
        else:
            self.wizard.choose(model=row.model, quant=row.quant)

    def action_details(self) -> None:
        """All about the file under the cursor."""
        row = self.query_one(CandidateTable).row
        if row is None:
            return
        if row.candidate is None:
            self.show_details(row, None)
            return
        choice = self.with_file(row)
        work = functools.partial(answer, choice, self.wizard.detected, catalog.load())
        background(self, work, functools.partial(self.show_details, row), group="details")

    def with_file(self, row: Row) -> Choice:
        """The choice with that file in place of the pick."""
        return msgspec.structs.replace(self.wizard.choice, model=row.model, quant=row.quant)

    def show_details(self, row: Row, found: Answer | None) -> None:
        if not self.is_current or self.wizard.answer is None:
            return
        if found is not None:
            line = found.choice.line
        else:
            line = self.with_file(row).estimate_line(self.wizard.answer.document.request.context_tokens)
        self.app.push_screen(Details(row, found, line))

    @property
    def charts_shown(self) -> bool:
        return self.has_class("charts") or self.has_class("-wide")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "view":
            return not self.has_class("-wide")
        return super().check_action(action, parameters)

    def action_view(self) -> None:
        """Curves or table; a wide terminal shows both."""
        self.toggle_class("charts")
        shown = self.has_class("charts")
        self.query_one("#charts-button", Button).label = "Table" if shown else "Charts"
        self.draw_curves()


def contexts(own: int, longest: int, chosen: int | None, use_case: str) -> list[Choosable[object]]:
    """Lengths in order, in tokens: powers of two, what the use case asks for (None), and what was chosen."""
    powers = takewhile(lambda length: length <= longest, (SHORTEST << power for power in count()))
    found: list[Choosable[object]] = []
    for length in sorted({*powers, own, chosen or own}):
        note = f"as {use_case} asks for" if length == own else f"about {length * 3 // 4:,} words of English"
        found.append(Choosable(None if own == length != chosen else length, f"{length:,}", note))
    return found


def curves(found: Answer, other: Candidate | None) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Speed by depth and memory by context of the pick, and of another."""
    terms, machine = found.ranking.terms, found.ranking.machine
    both = [one for one in (found.candidate, other) if one is not None]
    speed = tuple(Line(called(one), speed_by_depth(one, terms, machine, catalog.load())) for one in both)
    memory = tuple(Line(called(one), memory_by_context(one, terms)) for one in both)
    return speed, memory


def called(one: Candidate) -> str:
    return f"{one.model.name.removeprefix('Gemma 4 ')} {one.quant.name}"


def thousands(tokens: float) -> str:
    return f"{tokens / 1024:.0f}K" if tokens else "0"
