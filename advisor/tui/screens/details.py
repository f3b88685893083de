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
from advisor.tui.widgets.shell_line import ShellLine


class Details(Dialog[None]):
    """Speed, memory and reasons of a file that runs; why another does not.

    Args:
        row: the file.
        answer: with that file in place of the pick; None where it does not run.
        line: the command line that says the same.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d,enter,q", "leave", "Close", show=False),
        Binding("c", "app.copy_line", "Copy", show=False, tooltip="Copy the command line"),
    ]

    def __init__(self, row: Row, answer: Answer | None, line: str) -> None:
        super().__init__()
        self.row = row
        self.answer = answer
        self.line = line

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page", can_focus=False) as page:
            page.border_title = f"{self.row.name} {self.row.quant}"
            page.border_subtitle = "Esc closes, c copies the line"
            yield PickPanel()
            yield ShellLine()

    def on_mount(self) -> None:
        if not self.is_open:
            return
        self.query_one(ShellLine).line = self.line
        panel = self.query_one(PickPanel)
        if self.answer is not None:
            panel.show(self.answer)
        else:
            panel.say("It does not run here", [("Because", self.row.reason)])
