"""A question over a step: yes, or everything stays as it is."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from advisor.tui.dialog import Dialog
from advisor.tui.widgets.facts import Fact, Facts
from advisor.tui.widgets.shell_line import ShellLine


class Confirm(Dialog[bool]):
    """True: do it. None: do not.

    Args:
        title: what is asked.
        facts: what it means.
        yes: what the button says.
        line: the command line that does the same.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "yes", "Yes", show=False, tooltip="Do it")]

    def __init__(self, title: str, facts: tuple[Fact, ...], *, yes: str, line: str) -> None:
        super().__init__()
        self.asked, self.facts = title, facts
        self.yes, self.line = yes, line

    def compose(self) -> ComposeResult:
        with Vertical(id="page") as page:
            page.border_title = self.asked
            page.border_subtitle = "Esc changes nothing"
            yield Facts()
            with Horizontal(id="buttons"):
                yield Button(self.yes, variant="primary", compact=True, action="screen.yes", id="yes")
                yield Button("Back", compact=True, action="screen.leave")
            yield ShellLine()

    def on_mount(self) -> None:
        if self.is_open:
            self.query_one(Facts).facts = self.facts
            self.query_one(ShellLine).line = self.line

    def action_yes(self) -> None:
        """Do it."""
        self.leave(True)
