"""A widget that is drawn anew for each width, and is as high as what was drawn."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

LABEL = 16
"""Columns of the labels on the left, so that they line up from widget to widget."""


class Drawn(Widget):
    """Subclasses say how they look in so many columns."""

    DEFAULT_CSS = "Drawn { width: 1fr; height: auto; }"

    def draw(self, width: int) -> Content:
        """What to show; lines no longer than `width`."""
        raise NotImplementedError

    def render(self) -> Content:
        return self.draw(max(1, self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport
        drawn = self.draw(max(1, width))
        return len(drawn.split("\n")) if drawn else 0
