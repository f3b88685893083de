"""A calibration over the first step: offered, never forced; measured while one looks on, and ended with a key."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from advisor.console.progress import clock
from advisor.trials.costs import Calibration
from advisor.tui.calibrating import Calibrating
from advisor.tui.dialog import Dialog
from advisor.tui.widgets.facts import Fact, Facts
from advisor.tui.widgets.gauge import Gauge
from advisor.tui.widgets.shell_line import ShellLine
from advisor.units import format_rate

FRAME_S = 0.1
ROWS = 4
"""Tokens at once whose cost is told: three drafted, and one of the model's own."""
OFFER: tuple[Fact, ...] = (
    ("Measures", "how fast memory is read, and what several tokens at once cost: a drafter's gain rests on it"),
    ("Takes", "under a minute; nothing is fetched. A test model of 280 MB (840 for a GPU) is written and removed"),
    ("Remembered", "for this hardware and this build of the native engine"),
)


class Calibrate(Dialog[bool]):
    """True: it was measured. False: it is not wanted, and not offered again. None: nothing has changed."""

    HELP = """
What `advisor calibrate` does. It can be cancelled at any moment; nothing of it is kept then. The figures are best while
nothing else is at work. **Do not offer it** takes the line off the first step; the palette keeps it.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "leave", "Cancel", show=False, tooltip="Stop measuring; nothing is kept"),
    ]

    def __init__(self, deed: Calibrating, running: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.deed = deed
        self.running = running
        """Names of what runs beside it."""
        self.ended = False

    def compose(self) -> ComposeResult:
        with Vertical(id="page") as page:
            page.border_title = "Calibrate"
            page.border_subtitle = "Esc changes nothing"
            yield Facts()
            yield Gauge()
            with Horizontal(id="buttons"):
                yield Button("Measure", variant="primary", compact=True, action="screen.measure", id="measure")
                yield Button("Do not offer it", compact=True, action="screen.decline", id="decline")
                yield Button("Back", compact=True, action="screen.leave", id="back")
            yield ShellLine()

    def on_mount(self) -> None:
        if not self.is_open:
            return
        beside = f"{', '.join(self.running)} runs: it is measured with what that leaves" if self.running else ""
        self.query_one(Facts).facts = (*OFFER, ("Mind", beside)) if beside else OFFER
        self.query_one(ShellLine).line = "advisor calibrate"
        self.query_one("#measure").focus()
        self.set_interval(FRAME_S, self.look)

    # ---- Doing

    def action_measure(self) -> None:
        """Begin; once it is over, close."""
        if self.ended:
            self.action_leave()
        elif not self.deed.begun:
            self.query_one("#page").border_subtitle = "Esc cancels"
            self.query_one("#measure", Button).disabled = True
            self.query_one("#decline", Button).display = False
            self.query_one("#back", Button).label = "Cancel"
            self.query_one("#back").focus()
            self.deed.begin()
            self.look()

    def action_decline(self) -> None:
        """Not now, and not the next time."""
        self.leave(False)

    def action_leave(self) -> None:
        """Close; what is measured now is dropped."""
        if self.deed.begun:
            self.deed.cancel()
        self.leave(True if self.deed.found else None)

    # ---- Showing

    def look(self) -> None:
        """Draw how far it is."""
        if not self.deed.begun or self.ended or not self.is_open:
            return
        gauge = self.query_one(Gauge)
        gauge.share = self.deed.share
        if not self.deed.over:
            what = self.deed.stage.what if self.deed.stage else "beginning"
            gauge.said = f"{what}, about {clock(self.deed.left_s)} left"
            return
        self.ended = True
        gauge.said = "done" if self.deed.found else ""
        self.query_one(Facts).facts = outcome(self.deed)
        self.query_one("#back", Button).display = False
        close = self.query_one("#measure", Button)
        close.label, close.disabled = "Close", False
        close.focus()


def outcome(deed: Calibrating) -> tuple[Fact, ...]:
    """What was found, or why nothing was."""
    if deed.found is not None:
        return tuple(findings(deed.found))
    if deed.error is None:
        return (("Stopped", "Nothing of it is kept."),)
    said = (("Because", deed.error.message), ("What helps", deed.error.hint), ("", deed.error.command))
    return tuple(fact for fact in said if fact[1])


def findings(found: Calibration) -> list[Fact]:
    """In words; `advisor calibrate --show` has all of it."""
    facts = []
    if found.memory_bytes_per_s:
        facts.append(("Memory", f"main memory is read at {format_rate(found.memory_bytes_per_s)}"))
    wide = found.costs[-1]
    facts.append(("One token", f"{1000 * wide.seconds[1]:.1f} ms for {wide.where}"))
    if ROWS in wide.relative:
        facts.append((f"{ROWS} at once", f"{wide.relative[ROWS]:.2f} times as long: what verifying drafts costs"))
    return [*facts, ("Remembered", "predicted speeds now follow it")]
