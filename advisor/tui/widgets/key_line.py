"""The keys at the bottom, drawn anew only where they are other ones."""

from __future__ import annotations

from textual.binding import Binding
from textual.widgets import Footer


class KeyLine(Footer):
    """Textual composes its footer whenever a key may have changed: half a dozen times before the first picture, a
    hundredth of a second each. Mostly none has."""

    def __init__(self) -> None:
        super().__init__(compact=True)
        self.composed: list[tuple[Binding, bool, str]] = []

    async def recompose(self) -> None:
        """Unless it would look the same, or the screen is gone."""
        if not self.is_attached:
            return
        keys = [(key.binding, key.enabled, key.tooltip) for key in self.screen.active_bindings.values()]
        if keys != self.composed:
            self.composed = keys
            await super().recompose()
