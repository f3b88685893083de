"""The work of step 5: decide, fetch, load, and ask once. Cancelled at any point, nothing of it runs any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from advisor.console.progress import Pace, Transfer
from advisor.running import sessions, starting
from advisor.running.order import Order, Setup
from advisor.running.sessions import Session
from advisor.running.starting import Proof
from advisor.tui.deed import Deed
from advisor.tui.live import Live
from advisor.tui.services import Services
from backends.base import Backend

Stage = Literal["deciding", "fetching", "loading", "asking", "running"]
AGAIN_S = 0.1


class Start(Deed):
    """One order on its way to an endpoint that answers.

    Args:
        order: what is started.
        world: where files, backends and decisions are from.
        then: as for all deeds.
    """

    def __init__(self, order: Order, world: Services, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(then)
        self.order = order
        self.stage: Stage = "deciding"
        self.setup: Setup | None = None
        self.transfers: dict[str, Transfer] = {}
        """By the file's name, the newest last."""
        self.moved_at = time.monotonic()
        """When anything came last, or a stage began."""
        self.loading: Transfer | None = None
        self.proof: Proof | None = None
        self.live: Live | None = None
        self.claimed: Session | None = None
        """What it is on record as, once it loads."""
        self._world = world
        self._backend: Backend | None = None
        self._session: Session | None = None
        self._fetched, self._loaded = Pace(self._fetching), Pace(self._loading)

    # ---- In the thread

    def work(self) -> None:
        setup = self.setup = self._world.configure(self.order)
        self.check()
        backend = self._backend = self._world.backend(setup.backend)
        self._enter("fetching")
        self._world.fetch(setup, self._fetched)
        self.check()
        self._enter("loading")
        session = self._session = starting.open_session(backend, setup, progress=self._loaded, claimed=self._claim)
        try:
            self.check()
            self._enter("asking")
            proof = self.proof = starting.proved(backend, setup, session)
            self.check()
        except BaseException:
            sessions.end(session, backend)
            raise
        self.live = Live(session=session, backend=backend, setup=setup, proof=proof)
        self._enter("running")

    def _enter(self, stage: Stage) -> None:
        self.moved_at = time.monotonic()
        self.stage = stage

    def _fetching(self, transfer: Transfer) -> None:
        self.check()
        before = self.transfers.get(transfer.what)
        if before is None or before.done != transfer.done:
            self.moved_at = time.monotonic()
        self.transfers = {**self.transfers, transfer.what: transfer}

    def _claim(self, session: Session) -> None:
        self.claimed = session

    def _loading(self, transfer: Transfer) -> None:
        # What has no size only says that it is waited for.
        if transfer.size and (self.loading is None or self.loading.done != transfer.done):
            self.moved_at = time.monotonic()
        self.loading = transfer

    # ---- From outside

    def cancel(self) -> None:
        """Tell it to end. A server that loads or answers is stopped: nothing else wakes whoever waits for it."""
        super().cancel()
        threading.Thread(target=self._put_down, name="cancel", daemon=True).start()

    def _put_down(self) -> None:
        while not self.over:
            if (session := self._begun) is not None:
                sessions.end(session, self._backend)
            self.wait(AGAIN_S)

    @property
    def _begun(self) -> Session | None:
        """What this has started so far, and nobody else: another start may be under way by now."""
        if self._session is not None:
            return self._session
        found = sessions.as_on_record(self.claimed) if self.claimed is not None else None
        return found if found is not None and found.spawned else None
