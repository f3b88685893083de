"""One candidate in detail, over the step."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Click
from textual.screen import ModalScreen

from advisor.tui.state import Answer
from advisor.tui.widgets.candidate_table import Row
from advisor.tui.widgets.pick_panel import PickPanel


class Details(ModalScreen[None]):
    """Speed, memory and reasons of a file that runs; why another does not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d,enter,q", "dismiss", "Close"),
        Binding("up", "scroll_page(-1)", "Up", show=False),
        Binding("down", "scroll_page(1)", "Down", show=False),
        Binding("pageup", "scroll_page(-10)", "Page up", show=False),
        Binding("pagedown", "scroll_page(10)", "Page down", show=False),
    ]

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
        panel = self.query_one(PickPanel)
        if self.answer is not None:
            panel.show(self.answer)
        else:
            panel.say("It does not run here", [("Because", self.row.reason)])

    def on_click(self, event: Click) -> None:
        if event.widget is self:
            self.dismiss()

    def action_scroll_page(self, lines: int) -> None:
        """Move what is too high for the terminal."""
        self.query_one("#page").scroll_relative(y=lines, animate=False)
