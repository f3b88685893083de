"""The line at the top: the wizard's steps, and where one is."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.events import Click
from textual.widgets import Label

from advisor.tui.route import ROUTE


class Mark(Label):
    """One step; a click goes there."""

    def __init__(self, number: int, step: str, title: str, *, current: bool) -> None:
        super().__init__(f"{number} {title}", classes="-current" if current else "", markup=False)
        self.step = step

    async def on_click(self, event: Click) -> None:
        event.stop()
        await self.run_action(f"app.go('{self.step}')")


class StepLine(Horizontal):
    """All steps in order, the present one marked by more than its colour."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current

    def compose(self) -> ComposeResult:
        yield Label("advisor", id="brand")
        for number, place in enumerate(ROUTE, start=1):
            yield Mark(number, place.id, place.title, current=place.id == self.current)
