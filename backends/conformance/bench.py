"""Where a backend is tried out: its model, its one running endpoint, and a limit of time on everything."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec
import psutil

from advisor.errors import AdvisorError
from advisor.machine import Availability
from backends.base import Backend, Endpoint, LaunchPlan, Model, Options
from backends.conformance.rules import Late, Result, Rule, Skipped, judged, name_of

if TYPE_CHECKING:
    import httpx

    from advisor.running.client import Client

T = TypeVar("T")

LIMIT_S = 120.0
"""For each rule, where nobody says otherwise; loading a large model takes minutes."""
PATIENCE_S = 10.0
"""For a stop that is not itself the question, before the process is ended without the backend."""


class Bench:
    """One backend with one pair of files. Endpoints are started when a rule asks for one, and used by the next.

    Args:
        backend: what is tried out.
        model: the files, drafter included; None: the embedded pair.
        limit_s: seconds for each rule.
    """

    def __init__(self, backend: Backend, model: Model | None = None, *, limit_s: float = LIMIT_S) -> None:
        self.backend = backend
        self._given = model
        # The embedded pair is so small that threads would only wait for one another.
        self.options = Options() if model else Options(threads=1)
        self.limit_s = limit_s
        self._thread = _Thread()
        self._running: tuple[bool, Endpoint] | None = None
        self._failed: dict[bool, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- Trying rules

    def result(self, rule: Rule) -> Result:
        """Try one rule. After a failure the next one gets a fresh endpoint."""
        if reason := self.backend.waived.get(name_of(rule)):
            return judged(rule, functools.partial(_waive, reason), self.limit_s)
        before, well = children(), False
        try:
            result = judged(rule, lambda: self._thread.call(lambda: rule(self), self.limit_s), self.limit_s)
            well = result.status != "fail"
        finally:
            if not well:
                self._thread = _Thread()
                self.close()
                _kill(children() - before)  # of a start that never returned, nothing is known but its processes
        return result

    def close(self) -> None:
        """Leave nothing running, whatever the backend makes of it."""
        if self._running is None:
            return
        endpoint = self.release()
        tree = processes(endpoint)
        with contextlib.suppress(Exception):
            _Thread().call(lambda: self.backend.stop(endpoint), PATIENCE_S)
        _kill(tree)

    # ---- What rules ask for

    @functools.cached_property
    def model(self) -> Model:
        """The files that it is tried with: those given, or the embedded pair in the form that this runtime reads."""
        from advisor.running import demo  # noqa: PLC0415

        if self._given is not None:
            return self._given
        return _checkpoints() if self.found.reads == "checkpoint" else demo.pair()

    @functools.cached_property
    def found(self) -> Availability:
        """What the backend says of this machine."""
        return self.backend.detect()

    def plan(self, *, drafter: bool = True, **changes: Any) -> LaunchPlan:
        """The plan for the pair, or for the target alone; `changes`: other options than the usual ones.

        Raises:
            Skipped: these files are not for this runtime.
        """
        if reason := self.backend.refusal(self.model):
            raise Skipped(reason)
        plain = msgspec.structs.replace(self.model, drafter=None, draft_tokens=0)
        options = msgspec.structs.replace(self.options, **changes)
        return self.backend.plan(self.model if drafter else plain, options)

    def usable(self) -> None:
        """Raises Skipped where nothing can be started here."""
        if not self.found.available:
            raise Skipped(f"it cannot be used here: {self.found.why_not or 'it does not say why'}")

    def may_draft(self) -> bool:
        """Whether there is a drafter, and a runtime that takes one."""
        return self.model.drafter is not None and self.found.drafter

    def start(self, *, drafter: bool, **changes: Any) -> Endpoint:
        """Start an endpoint after stopping the other one; `changes` as for `plan`.

        Raises:
            AdvisorError: it does not start.
            Skipped: it cannot be tried here.
        """
        self.usable()
        self._failed[drafter] = "it took too long"
        try:
            plan = self.plan(drafter=drafter, **changes)
            self.close()
            self.backend.prepare(plan, _unseen)
            endpoint = self.backend.start(plan)
        except Exception as error:
            self._failed[drafter] = error.message if isinstance(error, AdvisorError) else str(error) or repr(error)
            raise
        del self._failed[drafter]
        self._running = (drafter, endpoint)
        return endpoint

    def endpoint(self, *, drafter: bool | None = None) -> Endpoint:
        """A running endpoint: of the pair where the runtime can draft, or as asked for.

        Raises:
            Skipped: there is none to be had.
        """
        wanted = self.may_draft() if drafter is None else drafter
        if self._running and self._running[0] == wanted:
            return self._running[1]
        self.usable()
        if wanted not in self._failed:
            with contextlib.suppress(Exception):
                return self.start(drafter=wanted)
        raise Skipped(f"nothing was started: {self._failed[wanted]}")

    def release(self) -> Endpoint:
        """The running endpoint, which from now on is whoever asked for it to stop.

        Raises:
            Skipped: there is none to be had.
        """
        endpoint = self._running[1] if self._running else self.endpoint()
        self._running = None
        return endpoint

    def http(self, endpoint: Endpoint) -> httpx.Client:
        """A bare HTTP client; paths are relative to `/v1/`."""
        import httpx  # noqa: PLC0415

        from advisor.running.client import authorized  # noqa: PLC0415

        return httpx.Client(
            base_url=endpoint.base_url + "/",
            headers=authorized(endpoint.api_key),
            timeout=httpx.Timeout(5, read=self.limit_s),
            trust_env=False,
            verify=endpoint.base_url.startswith("https:"),
        )

    def client(self, endpoint: Endpoint) -> Client:
        """Advisor's own client, in the backend's dialect where it has one."""
        from advisor.running.client import joined  # noqa: PLC0415

        return joined(self.backend, endpoint)


def _checkpoints() -> Model:
    """The embedded pair as checkpoints, which are made where they are not there yet."""
    from advisor.running import demo  # noqa: PLC0415
    from profiles.demo import checkpoint  # noqa: PLC0415 - numpy

    made = checkpoint.make()
    return msgspec.structs.replace(demo.pair(), target=made.target, drafter=made.drafter)


def among(model: str, names: Iterable[str]) -> bool:
    """Whether a model is listed; libraries add the tag `latest` to names without one."""
    return not {model, f"{model}:latest"}.isdisjoint(names)


def processes(endpoint: Endpoint) -> list[psutil.Process]:
    """The endpoint's processes; none where the backend started none."""
    try:
        process = psutil.Process(endpoint.pid) if endpoint.pid else None
        return [process, *process.children(recursive=True)] if process else []
    except psutil.Error:
        return []


def children() -> set[psutil.Process]:
    """Every process that descends from this one and runs."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child)
    return found


def _kill(those: Iterable[psutil.Process]) -> None:
    for process in those:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _unseen(_what: str, _done: int, _size: int | None) -> None: ...


def _waive(reason: str) -> None:
    raise Skipped(f"waived by the backend: {reason}")


class _Thread:
    """Runs one call after the other on one thread: a child process may be tied to the thread that started it."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="conformance").start()

    def call(self, what: Callable[[], T], seconds: float) -> T:
        """What it returns or raises; Late after `seconds`, and then this thread is not to be used again."""
        self._calls.put(what)
        try:
            value, error = self._ends.get(timeout=seconds)
        except queue.Empty:
            raise Late from None
        if error is not None:
            raise error
        found: T = value
        return found

    def _work(self) -> None:
        while True:
            what = self._calls.get()
            try:
                self._ends.put((what(), None))
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                self._ends.put((None, error))
