"""What can be changed while one talks: how many tokens are drafted, and the temperature; from the next answer on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical

from advisor.running.order import ADAPTS
from advisor.tui.talk import GREEDY
from advisor.tui.widgets.stepper import Choosable, Stepper

if TYPE_CHECKING:
    from advisor.tui.live import Live

TEMPERATURES = (GREEDY, 0.3, 0.7, 1.0, 1.5)
LENGTHS = (ADAPTS, 0, 1, 2, 3, 4, 5, 6, 8)
NAMES = {ADAPTS: "as many as pay", 0: "none"}


class Dials(Vertical):
    """Two steppers."""

    live: Live | None = None

    def compose(self) -> ComposeResult:
        yield Stepper("Drafts", "How many tokens are guessed a round, from the next answer on.", id="drafts")
        yield Stepper("Temperature", "0 always takes the likeliest word; 1 is Gemma's own.", id="temperature")

    @property
    def first(self) -> Stepper:
        """The first that can be changed."""
        drafts = self.query_one("#drafts", Stepper)
        return drafts if drafts.display else self.query_one("#temperature", Stepper)

    def offer(self, live: Live) -> None:
        """Draft lengths and temperatures, those that can be chosen."""
        self.live = live
        drafts, temperature = self.query_one("#drafts", Stepper), self.query_one("#temperature", Stepper)
        drafts.display = live.can_choose_drafts
        choices = [Choosable[object](length, NAMES.get(length, str(length)), "") for length in LENGTHS]
        drafts.offer(choices, live.talk.drafts)
        known = sorted({*TEMPERATURES, live.talk.temperature})
        heats = [Choosable[object](heat, "0, greedy" if heat == GREEDY else f"{heat:.1f}", "") for heat in known]
        temperature.offer(heats, live.talk.temperature)

    def on_stepper_changed(self, event: Stepper.Changed) -> None:
        if self.live is not None:
            setattr(self.live.talk, "drafts" if event.stepper.id == "drafts" else "temperature", event.value)
