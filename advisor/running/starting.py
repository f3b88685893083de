"""Starting what was decided: an endpoint that answers, the proof that its drafter works, and what both were worth.

`open_session` starts, `prove` asks once, `remember` keeps what was seen beside what was predicted, `proved` does both,
`attend` waits.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import AdvisorError, OutOfMemory, RuntimeFailed
from advisor.machine import Record
from advisor.running import sessions
from advisor.running.sessions import Session
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Progress, Stats, Verdict, Watch

if TYPE_CHECKING:
    from advisor.running.order import Setup

PORT_TRIES = 5
QUESTION = "Explain in a few sentences how a small drafter makes a large language model answer faster."
PROOF_TOKENS = 48
CLEARLY_SLOWER = 0.9
"""Than plain decoding was: one short answer tells no smaller difference."""
POLL_S, LOOK_S = 0.2, 2.0
"""How often it is looked whether a session ended, and whether a server that was there before does."""


class Proof(Record, frozen=True, kw_only=True):
    """What the first answer showed. `active` None: it cannot be known. `reason`: why the drafter is off, or how it is
    known that it is not; empty where drafts were counted.

    `drawback`: why it would be better without the drafter, empty where nothing says so.
    `tokens_per_step`: tokens that each round of the target gave, the drafts that were right and one of its own.
    `depth_tokens`: in the context at the end.
    """

    active: bool | None
    drafted: int
    accepted: int
    acceptance: float | None
    tokens_per_step: float | None
    tokens_per_s: float | None
    memory_bytes: int | None
    reason: str
    drawback: str = ""
    accepted_per_position: tuple[float, ...] = ()
    prefill_tokens_per_s: float | None = None
    depth_tokens: int = 0


def planned(backend: Backend, setup: Setup, *, port: int = 0, log: Path | None = None) -> LaunchPlan:
    """What starting would take, on that port and with that log."""
    options = msgspec.structs.replace(setup.options, port=port or setup.options.port, log=log)
    return backend.plan(setup.model, options)


def open_session(
    backend: Backend,
    setup: Setup,
    *,
    progress: Progress = UNWATCHED.progress,
    claimed: Callable[[Session], object] = lambda _: None,
) -> Session:
    """Start it and enter it among the sessions.

    Args:
        progress: told how much of the files is in memory, where the backend knows.
        claimed: told of the session as soon as it is on record, each time that another port is tried.

    Raises:
        AdvisorError: as `Backend.start`; nothing of it is left then. Where memory did not suffice, its command is the
            next smaller choice.
    """
    for attempt in range(1, PORT_TRIES + 1):
        plan = planned(backend, setup)
        session = sessions.claim(setup.model.name, plan, port=setup.options.port, command=_again(setup))
        claimed(session)
        plan = planned(backend, setup, port=session.port, log=sessions.log_of(session.name))
        told = functools.partial(_told, session, progress) if backend.shared else progress
        watch = Watch(progress=told, spawned=functools.partial(_spawned, session))
        endpoint = None
        try:
            endpoint = backend.start(plan, watch)
            return sessions.started(session, endpoint)
        except RuntimeFailed as error:
            stopped = sessions.was_stopped(session)
            sessions.forget(session)
            if stopped:
                raise RuntimeFailed(f"{session.name} was stopped while it was loading") from None
            # Somebody else may have taken the port in the meantime; then another one will do.
            if setup.options.port or attempt == PORT_TRIES or sessions.can_bind(session.port):
                raise _advised(error, setup) from None
        except BaseException:
            if endpoint is not None:
                backend.stop(endpoint)
            else:
                # A backend that breaks in a way of its own may leave what it has begun.
                sessions.end(sessions.as_on_record(session) or session, backend)
            sessions.forget(session)
            raise
    raise AssertionError


def _again(setup: Setup) -> str:
    """What starts it again, typed in any folder; empty where more than words decided."""
    order = setup.order
    if order is None or order.machine is not None:
        return ""
    files = {name: _absolute(getattr(order, name)) for name in ("model", "drafter")}
    return msgspec.structs.replace(order, **files).typed()


def _absolute(path: str | Path | None) -> str | Path | None:
    """A file by its whole path; whatever is none stays."""
    found = Path(path or "").expanduser()
    return type(path)(found.absolute()) if path and found.is_file() else path


def _spawned(session: Session, endpoint: Endpoint) -> None:
    sessions.spawned(session, endpoint)


def _told(session: Session, progress: Progress, what: str, done: int, size: int | None) -> None:
    """Pass on how far it is, unless it was told to end: there is no process of its own whose end would say so.

    Raises:
        RuntimeFailed: it was.
    """
    if sessions.was_stopped(session):
        raise RuntimeFailed(f"{session.name} was stopped while it was loading")
    progress(what, done, size)


def _advised(error: RuntimeFailed, setup: Setup) -> RuntimeFailed:
    """The error with what to start instead, where memory did not suffice."""
    if isinstance(error, OutOfMemory):
        from advisor.running import smaller  # noqa: PLC0415 - needed by those who failed only

        with contextlib.suppress(AdvisorError):
            return smaller.advised(error, setup)
    return error


def prove(backend: Backend, session: Session, *, drafter_reason: str = "", plain: float | None = None) -> Proof:
    """Ask something and look whether tokens were drafted.

    Args:
        drafter_reason: why there is no drafter, where there is none.
        plain: tokens per second without the drafter, where that was measured.

    Raises:
        RuntimeFailed: the server does not answer.
    """
    from advisor.running.client import joined  # noqa: PLC0415 - an HTTP library takes longer to import than a plan to make
    from advisor.running.demo import collect  # noqa: PLC0415

    endpoint = session.endpoint
    with joined(backend, endpoint) as client:
        question = [{"role": "user", "content": QUESTION}]
        timings = collect(client.chat(question, temperature=0, max_tokens=PROOF_TOKENS)).timings
    drafted, accepted = timings.draft_n or 0, timings.draft_n_accepted or 0
    tokens = (timings.predicted_n or 0) - 1  # the first one belongs to the prompt
    verdict = backend.drafting(endpoint) if session.drafter and not drafted else None
    counted = _counted(backend, endpoint)
    reason = verdict.reason if verdict else "" if drafted else _why_plain(backend, session, drafter_reason)
    return Proof(
        active=verdict.active if verdict else drafted > 0,
        drafted=drafted,
        accepted=accepted,
        acceptance=accepted / drafted if drafted else None,
        tokens_per_step=tokens / (tokens - accepted) if drafted and tokens > accepted else None,
        tokens_per_s=timings.predicted_per_second,
        memory_bytes=counted.memory_bytes if counted else None,
        reason=reason,
        drawback=_drawback(drafted, accepted, verdict, (timings.predicted_per_second, plain)),
        accepted_per_position=counted.accepted_per_position if counted else (),
        prefill_tokens_per_s=timings.prompt_per_second,
        depth_tokens=(timings.prompt_n or 0) + (timings.predicted_n or 0),
    )


def _drawback(drafted: int, accepted: int, verdict: Verdict | None, speeds: tuple[float | None, float | None]) -> str:
    """Why it would be better without the drafter."""
    drafted_speed, plain = speeds
    if drafted and not accepted:
        return "nothing that the drafter proposes is right: it only costs time, and may be another model's"
    if verdict and verdict.slower:
        return f"it is slower with the drafter than without: {verdict.reason}"
    if drafted and drafted_speed and plain and drafted_speed < CLEARLY_SLOWER * plain:
        return f"it is slower with the drafter: {drafted_speed:,.1f} tokens/s, and {plain:,.1f} without, as tried here"
    return ""


def _counted(backend: Backend, endpoint: Endpoint) -> Stats | None:
    try:
        return backend.stats(endpoint)
    except AdvisorError:
        return None


def _why_plain(backend: Backend, session: Session, reason: str) -> str:
    if not session.drafter:
        return reason or "none was given"
    return backend.why_plain(session.endpoint)


def proved(backend: Backend, setup: Setup, session: Session) -> Proof:
    """The proof of a session that was started from a setup, weighed against what a trial found before, and remembered.

    Raises:
        RuntimeFailed: the server does not answer.
    """
    from advisor.running import tried  # noqa: PLC0415 - as above

    plain = tried.plain_speed(setup)
    proof = prove(backend, session, drafter_reason=setup.drafter_reason, plain=plain)
    remember(setup, session, proof)
    return proof


def remember(setup: Setup, session: Session, proof: Proof) -> None:
    """Keep what the first answer showed beside what was predicted. Best effort: without it, nothing is lost but that.

    Nothing is kept where nothing was predicted, or nothing measured.
    """
    from advisor.prediction import measurements  # noqa: PLC0415

    found = setup.estimate
    if found is None or not proof.tokens_per_s:
        return
    model = setup.model
    with contextlib.suppress(AdvisorError):
        measurements.keep(
            measurements.Measurement(
                source="launch",
                date=measurements.now(),
                model=model.name,
                quant=found.subject.quant,
                target=measurements.identify(model.target),
                drafter=measurements.identify(model.drafter) if proof.active and model.drafter else None,
                backend=setup.backend,
                build=measurements.build_of(found.machine, setup.backend),
                machine=measurements.fingerprint(found.machine),
                drivers=measurements.drivers(found.machine),
                placement=found.placement.mode,
                kv_type=setup.options.kv_type,
                context_tokens=model.context_tokens,
                depth_tokens=proof.depth_tokens,
                draft_tokens=session.draft_tokens if proof.active else 0,
                tokens_per_s=proof.tokens_per_s,
                acceptance=proof.accepted_per_position,
                prefill_tokens_per_s=proof.prefill_tokens_per_s,
                memory_bytes=proof.memory_bytes,
                expected_tokens_per_s=setup.expected_tokens_per_s,
                expected_bytes=setup.expected_bytes,
                hardware=measurements.hardware(found.machine),
            )
        )


def attend(backend: Backend, session: Session) -> None:
    """Wait until the session ends.

    Raises:
        RuntimeFailed: its process died; returns where `advisor stop` ended it.
    """
    looked = time.monotonic()
    while sessions.is_alive(session):
        time.sleep(POLL_S if session.pid else LOOK_S)
        if not session.pid and sessions.was_stopped(session):
            return
        if backend.shared:
            # Its process is this one: whether its server still answers has to be asked.
            if sessions.was_stopped(session):
                return
            if time.monotonic() - looked > LOOK_S:
                if backend.gone(session.endpoint):
                    break
                looked = time.monotonic()
    if not sessions.was_stopped(session):
        raise backend.cause(session.endpoint)
