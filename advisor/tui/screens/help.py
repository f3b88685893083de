"""F1: what the focused part does, what the step is for, and the keys that work now."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Markdown

from advisor.tui.dialog import Dialog
from advisor.tui.widgets.facts import Fact, Facts


class Help(Dialog[None]):
    """A page of help over the step; Escape, F1, Enter or a click beside it closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,enter,q", "leave", "Close", show=False)]

    def __init__(self, text: str, keys: tuple[Fact, ...]) -> None:
        super().__init__()
        self.text = text
        self.keys = keys

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page", can_focus=False) as page:
            page.border_title = "Help"
            page.border_subtitle = "Esc closes"
            yield Markdown(self.text)
            yield Facts(id="keys")

    def on_mount(self) -> None:
        if self.is_open:
            self.query_one("#keys", Facts).facts = self.keys


def about(screen: Screen[Any]) -> str:
    """The help of the focused widget, or of the nearest around it that has some; then the screen's."""
    said: list[str] = []
    node: Any = screen.focused
    while node is not None and node is not screen and not said:
        if text := getattr(node, "help_text", None) or getattr(node, "HELP", None):
            said.append(inspect.cleandoc(text))
        node = node.parent
    if text := getattr(screen, "HELP", None):
        said.append(inspect.cleandoc(text))
    return "\n\n".join(said)


def keys(screen: Screen[Any]) -> tuple[Fact, ...]:
    """The keys that work now, and what each does."""
    rows: dict[str, str] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if active.enabled and (binding.show or binding.tooltip):
            rows.setdefault(screen.app.get_key_display(binding), binding.tooltip or binding.description)
    return tuple(rows.items())
