"""Where it answers, and what to paste where: over the chat."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Label, OptionList, Static

from advisor.running.sessions import Session
from advisor.running.snippets import Snippet, snippets
from advisor.tui.dialog import Dialog
from advisor.tui.widgets.options import Options


class Endpoint(Dialog[Snippet]):
    """Snippets by who takes them; the one that was taken is returned."""

    HELP = "**Enter** or a click copies what is shown below."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "address", "Copy the address", show=False, tooltip="The base URL alone"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.found = snippets(session)

    def compose(self) -> ComposeResult:
        with Vertical(id="page") as page:
            page.border_title = "Address"
            page.border_subtitle = "Enter copies, u the address alone, Esc closes"
            yield Label(self.session.base_url, classes="title", markup=False)
            yield Options(*[one.name for one in self.found], id="offers", compact=True)
            with VerticalScroll(id="snippet", can_focus=False):
                yield Static("", markup=False)

    def on_mount(self) -> None:
        if self.is_open:
            self.query_one(Options).highlighted = 0

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self.query_one("#snippet Static", Static).update(self.found[event.option_index].text)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.leave(self.found[event.option_index])

    def action_address(self) -> None:
        """The base URL alone."""
        self.leave(Snippet("address", self.session.base_url))
