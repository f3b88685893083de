"""Asked when the wizard is left while a model runs: it can go on without it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from advisor.running.sessions import Session
from advisor.tui.dialog import Dialog
from advisor.tui.widgets.facts import Facts


class Leave(Dialog[bool]):
    """True: stop what runs, and leave. False: leave it running. None: stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "answer(True)", "Stop it"),
        Binding("l", "answer(False)", "Leave it running"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def compose(self) -> ComposeResult:
        with Vertical(id="page") as page:
            page.border_title = f"{self.session.name} is running"
            page.border_subtitle = "Esc stays here"
            yield Facts()
            with Horizontal(id="buttons"):
                yield Button("Stop it", variant="primary", compact=True, action="screen.answer(True)", id="stop")
                yield Button("Leave it running", compact=True, action="screen.answer(False)", id="go-on")
                yield Button("Stay", compact=True, action="screen.leave")

    def on_mount(self) -> None:
        if self.is_open:
            self.query_one(Facts).facts = (
                ("s", "stops it, and leaves"),
                ("l", f"leaves it at {self.session.base_url}; `advisor stop {self.session.name}` ends it"),
            )

    def action_answer(self, stop: bool) -> None:
        """One of the two."""
        self.leave(stop)
