"""The work of a calibration: what `advisor calibrate` measures, looked at while it goes on, and ended at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from advisor.machine import Machine
from advisor.trials import calibration
from advisor.trials.calibration import Stage
from advisor.trials.costs import Calibration
from advisor.tui.deed import Deed
from advisor.tui.services import Services

NEARLY = 0.98
"""Of a stage that takes longer than usual."""


class Calibrating(Deed):
    """One calibration of this machine.

    Args:
        machine: as it was detected.
        world: what measures it.
        then: as for all deeds.
    """

    def __init__(self, machine: Machine, world: Services, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(then)
        self.stages: tuple[Stage, ...] = calibration.stages(machine)
        self.stage: Stage | None = None
        self.since = time.monotonic()
        """When that stage began."""
        self.found: Calibration | None = None
        self._machine, self._world = machine, world
        self._stop = threading.Event()

    @property
    def left_s(self) -> float:
        """About how long it still takes."""
        if self.stage is None:
            return sum(each.seconds for each in self.stages)
        place = self.stages.index(self.stage)
        spent = min(time.monotonic() - self.since, NEARLY * self.stage.seconds)
        return sum(each.seconds for each in self.stages[place:]) - spent

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return 1.0 if self.found else 1 - self.left_s / sum(each.seconds for each in self.stages)

    def cancel(self) -> None:
        """Tell it to end; nothing of it is kept."""
        super().cancel()
        self._stop.set()

    # ---- In the thread

    def work(self) -> None:
        for event in self._world.calibrate(self._machine, self._stop):
            if isinstance(event, Calibration):
                self.found = event
            else:
                self.stage, self.since = event, time.monotonic()
            self.check()
