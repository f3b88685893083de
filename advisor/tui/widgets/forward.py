"""The button to go on with; its key is in the footer."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Button


class Forward(Button):
    """The first button of a step."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "press", "Go on", tooltip="As the first button")]

    def __init__(self, label: str, *, action: str | None = None, disabled: bool = False) -> None:
        super().__init__(label, id="forward", variant="primary", compact=True, action=action, disabled=disabled)
