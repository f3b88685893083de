"""One candidate in detail, over the step."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from advisor.tui.dialog import Dialog
from advisor.tui.state import Answer
from advisor.tui.widgets.candidate_table import Row
from advisor.tui.widgets.pick_panel import PickPanel


class Details(Dialog[None]):
    """Speed, memory and reasons of a file that runs; why another does not."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("d,enter,q", "leave", "Close", show=False)]

    def __init__(self, row: Row, answer: Answer | None) -> None:
        super().__init__()
        self.row = row
        self.answer = answer

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page", can_focus=False) as page:
            page.border_title = f"{self.row.name} {self.row.quant}"
            page.border_subtitle = "Esc closes"
            yield PickPanel()

    def on_mount(self) -> None:
        if not self.is_open:
            return
        panel = self.query_one(PickPanel)
        if self.answer is not None:
            panel.show(self.answer)
        else:
            panel.say("It does not run here", [("Because", self.row.reason)])
