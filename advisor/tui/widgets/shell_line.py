"""The line above the keys: what to type for what is on the screen. A click, or `c`, copies it."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget


class ShellLine(Widget):
    """A command line; one that is too long for a line goes on in the next."""

    line: reactive[str] = reactive("", layout=True)

    def render(self) -> Content:
        return Content.assemble(("$ ", "$foreground-muted"), self.line) if self.line else Content("")

    async def on_click(self) -> None:
        await self.run_action("app.copy_line")
