"""A choice among a few: one line, changed with left and right or with a click on an arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Click
from textual.message import Message
from textual.widgets import Label

T = TypeVar("T")


class Choosable(NamedTuple, Generic[T]):
    """What can be chosen: its value, its name, and a few words about it."""

    value: T
    name: str
    note: str


class Arrow(Label):
    """A click steps."""

    def __init__(self, text: str, step: int) -> None:
        super().__init__(text, classes="arrow")
        self.step = step

    def on_click(self, event: Click) -> None:
        event.stop()
        stepper = self.query_ancestor(Stepper)
        stepper.focus()
        stepper.action_step(self.step)


class Stepper(Horizontal, can_focus=True):
    """`Use case  ◂ Chat ▸  questions, drafting, summaries`.

    Args:
        label: what is chosen.
        help_text: for F1.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Previous", show=False, tooltip="The choice before"),
        Binding("right,l", "step(1)", "Next", show=False, tooltip="The next choice"),
        Binding("home", "step(-99)", "First", show=False),
        Binding("end", "step(99)", "Last", show=False),
        Binding("down,j", "app.focus_next", "Down", show=False),
        Binding("up,k", "app.focus_previous", "Up", show=False),
    ]

    class Changed(Message):
        """Another value was chosen."""

        def __init__(self, stepper: Stepper, value: object) -> None:
            super().__init__()
            self.stepper = stepper
            self.value = value

        @property
        def control(self) -> Stepper:
            return self.stepper

    def __init__(self, label: str, help_text: str, *, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self.label = label
        self.help_text = help_text
        self.options: Sequence[Choosable[object]] = ()
        self.index = 0

    def compose(self) -> ComposeResult:
        yield Label(self.label, classes="label", markup=False)
        yield Arrow("◂", -1)
        yield Label("", classes="value", markup=False)
        yield Arrow("▸", 1)
        yield Label("", classes="note", markup=False)

    def offer(self, options: Sequence[Choosable[object]], value: object) -> None:
        """Offer these, and show that value as chosen."""
        self.options = options
        values = [option.value for option in options]
        self.index = values.index(value) if value in values else 0
        self.draw()

    @property
    def note(self) -> str:
        """What is said of the choice."""
        return self.options[self.index].note if self.options else ""

    def draw(self) -> None:
        if not self.options:
            return
        option = self.options[self.index]
        self.query_one(".value", Label).update(option.name)
        self.query_one(".note", Label).update(option.note)
        first, last = self.query(Arrow)
        first.set_class(self.index == 0, "-end")
        last.set_class(self.index == len(self.options) - 1, "-end")

    def action_step(self, step: int) -> None:
        """So many choices on; it stops at the ends."""
        index = max(0, min(len(self.options) - 1, self.index + step))
        if index != self.index:
            self.index = index
            self.draw()
            self.post_message(self.Changed(self, self.options[index].value))
