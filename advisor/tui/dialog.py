"""What lies over a step: closed by Escape or a click beside it, moved with the keys where it is too high."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.events import Click
from textual.screen import ModalScreen

T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """Its content is in `#page`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("ctrl+c", "interrupt", "Close", show=False),
        Binding("f1", "app.help", "Help", show=False, tooltip="What the focused part does, and its keys"),
        Binding("up", "scroll_page(-1)", "Up", show=False),
        Binding("down", "scroll_page(1)", "Down", show=False),
        Binding("pageup", "scroll_page(-10)", "Page up", show=False),
        Binding("pagedown", "scroll_page(10)", "Page down", show=False),
    ]

    left = False

    def leave(self, result: T | None = None) -> None:
        """Close with a result; a second key that was already on its way changes nothing, nor does one that comes when
        something else lies over this by now."""
        if not self.left and self.is_active:
            self.left = True
            self.dismiss(result)

    def action_leave(self) -> None:
        """Close; nothing changes."""
        self.leave()

    def action_interrupt(self) -> None:
        """Copy what is marked; where nothing is, close."""
        if marked := self.get_selected_text():
            self.app.copy_to_clipboard(marked)
        else:
            self.action_leave()

    def on_click(self, event: Click) -> None:
        if event.widget is self:
            self.leave()

    def action_scroll_page(self, lines: int) -> None:
        """Move what is too high for the terminal."""
        self.query_one("#page").scroll_relative(y=lines, animate=False)

    @property
    def is_open(self) -> bool:
        """False where it was closed before its content was there."""
        return self in self.app.screen_stack
