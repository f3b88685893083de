"""Step 2: what the answer depends on, and everything that was considered."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Label

from advisor.tui.state import Answer
from advisor.tui.step import Step


class TuneStep(Step):
    """Use case, context, quality or speed, with their effect."""

    STEP = "tune"

    def body(self) -> ComposeResult:
        yield Label("", id="headline", classes="headline", markup=False)

    def show(self, answer: Answer) -> None:
        self.query_one("#headline", Label).update(answer.pick.name)
        self.line = answer.choice.line
