"""The endpoints that this user has running: one small JSON file each, in the folder that the system keeps for state.

Every change happens under a lock and replaces a whole file, so that two advisors at once, or one that dies in the
middle of writing, leave nothing half-written. A process is known by its id together with its birth: an id that the
system has given to another program since is never taken for ours.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import socket
import tempfile
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from advisor.errors import RuntimeFailed, UsageError, unknown_name
from advisor.paths import STATE, state_folder
from advisor.running.processes import birth, left, marks
from backends.base import Backend, Endpoint, LaunchPlan, load

FIRST_PORT, LAST_PORT = 8080, 8179
"""Tried in turn: clients are configured once, so the port should be the same on every day."""
LOCK_S = 10.0
HALF = ".new"
"""Ends the names of files that are not whole yet."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint and the process behind it. `birth` tells the process from a later one with the same id.

    While it is `starting`, the process is the advisor that starts it, and the server from when there is one; `starter`
    is that advisor, as `pid:birth`. `stopping`: it was told to end. `group`: all the processes that the server
    consisted of when it began to answer, as `pid:birth`. `command`: what starts it again, typed in any folder; empty
    where that is not known.
    """

    name: str
    status: Literal["starting", "running", "stopping"]
    backend: str
    model: str
    pid: int
    birth: str
    port: int
    since: str
    base_url: str = ""
    log: str = ""
    target: str = ""
    drafter: bool = False
    draft_tokens: int = 0
    context_tokens: int = 0
    detached: bool = False
    api_key: str = ""
    starter: str = ""
    group: tuple[str, ...] = ()
    command: str = ""

    @property
    def spawned(self) -> bool:
        """Whether there is a server, that answers or will."""
        return bool(self.base_url)

    @property
    def endpoint(self) -> Endpoint:
        """As its backend knows it."""
        return Endpoint(
            base_url=self.base_url,
            model=self.model,
            backend=self.backend,
            pid=self.pid,
            name=self.name,
            log=Path(self.log) if self.log else None,
            drafter=self.drafter,
            api_key=self.api_key or None,
        )


def folder() -> Path:
    """Where state is kept; made if need be, readable by this user only."""
    try:
        path = state_folder()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError) as error:
        raise RuntimeFailed(
            f"the folder for state cannot be made: {error}", hint=f"set {STATE} to a folder that can be written"
        ) from None
    return path


def _is_there() -> bool:
    """Whether anything was ever kept: where no folder can be made, there are no sessions."""
    try:
        return state_folder().is_dir()
    except (OSError, RuntimeError):
        return False


def log_of(name: str) -> Path:
    """The file that the server of that name writes to."""
    path = folder() / "logs"
    path.mkdir(exist_ok=True)
    return path / f"{name}.log"


# ---- Reading


def everything() -> list[Session]:
    """All sessions on record, the oldest first; those whose process has gone are among them."""
    found = (_read(path) for path in folder().glob("*.json")) if _is_there() else ()
    return sorted((session for session in found if session), key=lambda session: session.since)


def living() -> list[Session]:
    """The sessions whose process runs."""
    return [session for session in everything() if is_alive(session)]


def running() -> list[Session]:
    """The sessions that can be talked to; one whose starter died before it answered is, as soon as it does."""
    return [each for each in map(_settled, living()) if each.status == "running"]


def stoppable() -> list[Session]:
    """The sessions that have a server, whether it answers yet or not, or of which something is left."""
    return [session for session in everything() if session.spawned and (is_alive(session) or remains(session))]


def find(name: str | None = None, *, among: Callable[[], list[Session]] | None = None) -> Session:
    """The running session of that name, or the only one.

    Args:
        among: which sessions count, those that can be talked to by default.

    Raises:
        UsageError: there is none of that name, or no name was given and there is not exactly one.
    """
    found = (among or running)()
    names = [session.name for session in found]
    if name is not None:
        for session in found:
            if session.name == name:
                return session
        if not names:
            raise nothing_runs()
        raise unknown_name("session", name, names, command="advisor ps")
    if not found:
        raise nothing_runs()
    if len(found) > 1:
        raise UsageError(f"{len(found)} sessions are running", hint=f"name one of {', '.join(names)}")
    return found[0]


def serving(name: str) -> Session | None:
    """A running session of that name, else one that serves the model of that name; None where there is none."""
    found = running()
    named = [session for session in found if session.name == name]
    return next(iter(named or [session for session in found if session.model == name]), None)


def nothing_runs() -> UsageError:
    return UsageError("nothing is running", hint="start something first", command="advisor launch demo --detach")


def is_alive(session: Session) -> bool:
    """Whether the very process of this session still runs; where its server was there before, whether that answers."""
    if not session.pid:
        return not load(session.backend).gone(session.endpoint)
    return birth(session.pid) == session.birth


def remains(session: Session) -> list[int]:
    """What is left of a server whose first process has gone: workers that hold its memory."""
    return [] if not session.pid or is_alive(session) else left(session.pid, session.group)


def _settled(session: Session) -> Session:
    """A session that nobody watches any more while it starts: running, if it answers by now."""
    if session.status != "starting" or not session.spawned or _starter_lives(session):
        return session
    import httpx  # noqa: PLC0415 - seldom needed

    with contextlib.suppress(httpx.HTTPError):
        if httpx.get(session.base_url.removesuffix("/v1") + "/health", timeout=1, trust_env=False).is_success:
            return started(session, session.endpoint)
    return session


def _starter_lives(session: Session) -> bool:
    pid, _, born = session.starter.partition(":")
    return birth(int(pid)) == born if pid.isdecimal() else False


# ---- Changing


def claim(name: str, plan: LaunchPlan, *, port: int = 0, command: str = "") -> Session:
    """Enter a session that is about to start, under a name and with a port that nobody else has. Dead ones are cleared
    away.

    Args:
        name: what to call it; a number is added where it is taken.
        port: the one asked for, 0 for a free one.
        command: what starts it again.

    Raises:
        RuntimeFailed: the port asked for is taken.
    """
    own = os.getpid()
    with _locked():
        others = _cleared()
        session = Session(
            name=_free_name(name, {other.name for other in others}),
            status="starting",
            backend=plan.backend,
            model=plan.model.name,
            pid=own,
            birth=birth(own),
            starter=f"{own}:{birth(own)}",
            port=_port(port, {other.port: other.name for other in others}),
            since=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            target=str(plan.model.target),
            draft_tokens=plan.model.draft_tokens,
            context_tokens=plan.model.context_tokens,
            detached=plan.options.detached,
            command=command,
        )
        _write(session)
    return session


def spawned(session: Session, endpoint: Endpoint) -> Session:
    """The session with the server that will be its endpoint, on record before it does anything: whatever becomes of
    whoever starts it, it is known and can be stopped."""
    return _become(session, endpoint, "starting")


def started(session: Session, endpoint: Endpoint) -> Session:
    """The session with the endpoint that it has become."""
    return _become(session, endpoint, "running")


def _become(session: Session, endpoint: Endpoint, status: Literal["starting", "running"]) -> Session:
    pid = os.getpid() if endpoint.pid is None else endpoint.pid
    session = msgspec.structs.replace(
        session,
        status=status,
        pid=pid,
        birth=birth(pid) if pid else "",
        port=session.port if endpoint.pid else urlsplit(endpoint.base_url).port or session.port,
        base_url=endpoint.base_url,
        model=endpoint.model,
        log=str(endpoint.log or ""),
        drafter=endpoint.drafter,
        draft_tokens=session.draft_tokens if endpoint.drafter else 0,
        api_key=endpoint.api_key or "",
        group=marks(pid) if endpoint.pid and status == "running" else (),
    )
    with _locked():
        _write(session)
    return session


def forget(session: Session) -> None:
    """Take the session off the record, unless its name has passed to another since."""
    with _locked():
        now = _read(_path(session.name))
        if now is not None and now.since == session.since:
            _path(session.name).unlink(missing_ok=True)


def end(session: Session, backend: Backend | None = None) -> None:
    """Stop the session's process, if it is still the same, with all that is left of it, and forget it.

    Args:
        backend: the one that started it, where it is this process's; another one of its kind otherwise.
    """
    if session.spawned and (is_alive(session) or remains(session)):
        with _locked():
            # So that whoever waits for it knows that it did not die.
            _write(msgspec.structs.replace(session, status="stopping"))
        (backend or load(session.backend)).stop(session.endpoint)
    forget(session)


def as_on_record(session: Session) -> Session | None:
    """The same session as it stands by now; None where it was forgotten."""
    now = _read(_path(session.name))
    return now if now is not None and now.since == session.since else None


def was_stopped(session: Session) -> bool:
    """Whether somebody told it to end."""
    now = as_on_record(session)
    return now is None or now.status == "stopping"


def clear() -> list[Session]:
    """Forget the sessions whose process has gone; returns those that are left."""
    if not _is_there():
        return []
    with _locked():
        return _cleared()


def _cleared() -> list[Session]:
    kept = []
    for path in folder().glob(f".*{HALF}"):
        # Nobody writes while the lock is held: whoever began this one died of it.
        path.unlink(missing_ok=True)
    for session in everything():
        # Whoever runs it in the foreground still wants to know why it died, and clears it away himself.
        if is_alive(session) or (not session.detached and _starter_lives(session)) or remains(session):
            kept.append(session)
        else:
            _path(session.name).unlink(missing_ok=True)
    return kept


def _free_name(name: str, taken: set[str]) -> str:
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.").lower()[:60] or "model"
    count = 1
    while (candidate := plain if count == 1 else f"{plain}-{count}") in taken:
        count += 1
    return candidate


def free_port(taken: Container[int] = ()) -> int:
    """A port of the loopback address that nobody has: the same one every day, if it can be."""
    for port in range(FIRST_PORT, LAST_PORT + 1):
        if port not in taken and can_bind(port):
            return port
    return any_port()


def any_port() -> int:
    """A port of the loopback address that nobody has, nor is about to take: for what is not talked to by hand."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port(asked: int, taken: dict[int, str]) -> int:
    if not asked:
        return free_port(taken)
    if asked in taken:
        raise RuntimeFailed(
            f"port {asked} is used by the session {taken[asked]!r}", hint="give another one with --port"
        )
    if not can_bind(asked):
        raise RuntimeFailed(
            f"port {asked} is used by another program", hint="give another one with --port, or none for a free one"
        )
    return asked


def can_bind(port: int) -> bool:
    """Whether a server could have this port of the loopback address."""
    with socket.socket() as probe:
        if os.name == "posix":
            # As servers do: a port whose last connections are still fading out is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# ---- Files


def _path(name: str) -> Path:
    return folder() / f"{name}.json"


def _read(path: Path) -> Session | None:
    """The session in a file; None for one that is gone or not ours to understand."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Session)
    except (OSError, msgspec.DecodeError):
        return None


def _write(session: Session) -> None:
    path = _path(session.name)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{session.name}-", suffix=HALF)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(session)))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            said = error.strerror or error
            hint = f"free some space there, or set {STATE} to another folder"
            raise RuntimeFailed(f"{path.parent} cannot be written: {said}", hint=hint) from error
        raise


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Alone among all advisors of this user; never for longer than it takes to write a small file."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only what runs servers needs it

    try:
        with FileLock(folder() / ".lock", timeout=LOCK_S):
            yield
    except Timeout:
        raise RuntimeFailed(f"another advisor holds {folder() / '.lock'}", hint="try again in a moment") from None
