"""Long work in a thread of its own, looked at from the event loop several times a second.

A Textual worker would do, but for one thing: the program waits for its workers when it ends, and a connection that has
gone silent cannot be woken. A deed is told to end and ends in its own time; what it began, it takes back.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from advisor.errors import AdvisorError, Interrupted


class Deed(ABC):
    """Work that can be cancelled. What it did so far is in its attributes: each is replaced whole, never changed.

    Args:
        then: called in the thread when it is over, whatever came of it.
    """

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self._then = then
        self.error: AdvisorError | None = None
        """Why it failed; None where it went well or was cancelled."""
        self.cancelled = False
        self.begun = False
        self._over = threading.Event()

    def begin(self) -> None:
        """Start the thread."""
        self.begun = True
        threading.Thread(target=self._guarded, name=type(self).__name__, daemon=True).start()

    @abstractmethod
    def work(self) -> None:
        """In the thread. Raises what it likes."""

    def cancel(self) -> None:
        """Tell it to end; returns at once."""
        self.cancelled = True

    @property
    def over(self) -> bool:
        """Whether nothing of it goes on any more."""
        return self._over.is_set()

    @property
    def under_way(self) -> bool:
        """Whether it has begun, and goes on."""
        return self.begun and not self.over

    def wait(self, seconds: float) -> bool:
        """Until it is over; whether it is."""
        return self._over.wait(seconds)

    def check(self) -> None:
        """Raises Interrupted where it was told to end."""
        if self.cancelled:
            raise Interrupted("stopped")

    def _guarded(self) -> None:
        try:
            self.work()
        except Exception as raised:  # noqa: BLE001 - whatever it is, the wizard goes on
            from advisor.cli import shown_error  # noqa: PLC0415

            if not self.cancelled:
                self.error = shown_error(raised)
        finally:
            self._over.set()
            self._then()
