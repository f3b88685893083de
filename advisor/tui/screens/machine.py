"""Another machine, over the step: what was detected is corrected, or one that is not here is described."""

from __future__ import annotations

import functools

import msgspec
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widgets import Button, Input, Label, OptionList

from advisor.errors import AdvisorError
from advisor.hardware.simulate import as_sold
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.pages.terminal import rate
from advisor.tui.background import background
from advisor.tui.dialog import Dialog
from advisor.tui.state import Answer, Choice, answer, machine_of
from advisor.tui.widgets.options import Options

MOST_OFFERED = 5
DEBOUNCE_S = 0.12
KNOWN = ("RTX 4090, 64GB", "RTX 3060 12GB, 32GB", "M4 Pro 48GB", "Strix Halo 128GB", "cpu, 32GB")
"""Offered before anything is typed."""


class MachineDialog(Dialog[Choice]):
    """Returns the choice with its machine changed, or None. The effect is shown before it is taken."""

    HELP = """
**GPU** and **Memory** correct what was detected here: `RTX 4060`, `2x RTX 3090`, `GPU 24GB` for one that the catalogue
does not know, `none` for no GPU; `12GB` for less memory. Leave a field empty to keep what was found.

**Instead** describes another machine altogether: `RTX 4090, 64GB`, `M3 Max 64GB`, `cpu, 16GB`. Nothing can be started
there from here; the command can be copied.
"""

    def __init__(self, choice: Choice, detected: Machine | None) -> None:
        super().__init__()
        self.choice = choice
        self.detected = detected
        self._soon: Timer | None = None

    def compose(self) -> ComposeResult:
        devices = catalog.load().devices.values()
        cards = [device.name for device in devices if device.kind == "gpu"]
        with Vertical(id="page") as page:
            page.border_title = "Machine"
            page.border_subtitle = "Esc changes nothing"
            yield Label("Correct what was detected", classes="title")
            with Horizontal(classes="field"):
                yield Label("GPU")
                yield Input(
                    self.choice.gpu or "",
                    placeholder=self.found("gpu"),
                    suggester=SuggestFromList(cards, case_sensitive=False),
                    compact=True,
                    id="gpu",
                )
            with Horizontal(classes="field"):
                yield Label("Memory")
                yield Input(self.choice.memory or "", placeholder=self.found("memory"), compact=True, id="memory")
            yield Label("Or take another one", classes="title")
            with Horizontal(classes="field"):
                yield Label("Instead")
                yield Input(self.choice.spec or "", placeholder="RTX 4090, 64GB", compact=True, id="spec")
            yield Options(*KNOWN, id="offers", compact=True)
            yield Label("", id="outlook", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Take it", variant="primary", compact=True, id="take")
                yield Button("As detected", compact=True, id="reset")
                yield Button("Back", compact=True, id="cancel")

    def found(self, what: str) -> str:
        """What was detected, as a hint in an empty field."""
        if self.detected is None:
            return "not known yet"
        if what == "memory":
            return f"{as_sold(self.detected.memory.total_bytes)} detected"
        return ", ".join(gpu.name for gpu in self.detected.gpus) or "none detected"

    def on_mount(self) -> None:
        self.look()

    # ---- What is typed

    @property
    def wanted(self) -> Choice:
        """The choice with what is typed."""
        typed = {name: self.query_one(f"#{name}", Input).value.strip() or None for name in ("gpu", "memory", "spec")}
        if typed["spec"]:
            # A described machine is as it is described.
            typed["gpu"] = typed["memory"] = None
        return msgspec.structs.replace(self.choice, **typed)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "spec":
            self.offer(event.value)
        if self._soon is not None:
            self._soon.stop()
        self._soon = self.set_timer(DEBOUNCE_S, self.look)

    def on_input_submitted(self) -> None:
        self.take()

    def offer(self, text: str) -> None:
        """Devices whose names hold what is typed."""
        offers = self.query_one("#offers", OptionList)
        offers.clear_options()
        offers.add_options(offered(text))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        field = self.query_one("#spec", Input)
        field.value = str(event.option.prompt)
        field.focus()

    # ---- Its effect

    def look(self) -> None:
        """What the answer would be."""
        if not self.is_open or (self.detected is None and self.wanted.here):
            return
        work = functools.partial(answer, self.wanted, self.detected, catalog.load())
        background(self, work, self.tell, group="outlook", otherwise=self.refuse)

    def tell(self, found: Answer) -> None:
        pick = found.pick
        speed = f"about {rate(pick.speed.decode_tokens_per_s)} tok/s"
        self.say(f"→ {pick.name} {pick.quant}, {speed}", possible=True)

    def refuse(self, error: AdvisorError) -> None:
        message = error.message.removeprefix("--simulate: ").removeprefix("--simulate ")
        # A machine on which nothing fits is one all the same.
        self.say(f"{message}. {error.hint}", possible=error.code == "nothing_fits")

    def say(self, text: str, *, possible: bool) -> None:
        outlook = self.query_one("#outlook", Label)
        outlook.update(text)
        outlook.set_class(not possible, "-wrong")
        self.query_one("#take", Button).disabled = not possible

    # ---- Done

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "take":
            self.take()
        elif event.button.id == "reset":
            self.leave(msgspec.structs.replace(self.choice, spec=None, gpu=None, memory=None))
        else:
            self.leave()

    def take(self) -> None:
        """Take it, where it is a machine."""
        if not self.is_open:
            return
        try:
            machine_of(self.wanted, self.detected, catalog.load())
        except (AdvisorError, LookupError):
            self.look()
        else:
            self.leave(self.wanted)


def offered(text: str) -> list[str]:
    """What can be taken as it is: well-known machines, or devices with those words in their names."""
    words = text.lower().split()
    if not words:
        return list(KNOWN)
    names = [device.name for device in catalog.load().devices.values()]
    return [name for name in names if all(word in name.lower() for word in words)][:MOST_OFFERED]
