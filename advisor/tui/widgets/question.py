"""What one types a question into: Enter sends, and as many lines as need be."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea


class Question(TextArea):
    """Grows with what is typed."""

    HELP = """
What you want to ask. **Enter** sends it; **ctrl+j** begins a new line, and text that is pasted keeps its lines.
**Escape** or **ctrl+c** stops an answer; once nothing comes any more, Escape goes back.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", tooltip="Ask it"),
        # A question is seldom as high as a page; what was said is.
        Binding("pageup", "screen.scroll_turns(-1)", "Page up", show=False, tooltip="Back in the conversation"),
        Binding("pagedown", "screen.scroll_turns(1)", "Page down", show=False, tooltip="On in the conversation"),
        Binding("ctrl+j", "line", "New line", show=False, tooltip="A new line in the question"),
    ]

    class Sent(Message):
        """A question."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(
            id="question", compact=True, soft_wrap=True, show_line_numbers=False, tab_behavior="focus",
            placeholder="Ask something",
        )  # fmt: skip

    async def _on_key(self, event: Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_send()

    def action_send(self) -> None:
        """Ask it."""
        if self.text.strip():
            self.post_message(self.Sent(self.text.strip()))

    def action_line(self) -> None:
        """A new line."""
        self.insert("\n")
