"""Loading: nothing else on the same target, then the model, then a look whether it is the very one that answers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from advisor.errors import AdvisorError, NoBackend, RuntimeFailed
from backends.base import Verdict
from backends.ollama import address, log
from backends.ollama.address import Address
from backends.ollama.api import Api, full
from backends.ollama.making import Ready
from backends.ollama.versions import ADVISED, reaches, words

QUESTION = "Explain in a few sentences how a small drafter makes a large language model answer faster."
PROOF_TOKENS = 24
COMPARED_TOKENS = 96
ENDS_S, POLL_S = 20.0, 0.05
TRIES = 2
STARTS_S = 30.0
TELLING = 0.15
"""What a difference in speed must be to say that a drafter runs; the child is the same in all else."""


def bring_up(api: Api, ready: Ready, tell: Callable[[], None] = lambda: None) -> None:
    """Load the model and see that it is this one, with this drafter, that answers.

    Args:
        tell: called now and then; what it raises ends this.

    Raises:
        RuntimeFailed: it does not load, or another one answers in its place. What was loaded is unloaded then.
    """
    if _is_up(api, ready):
        answer(api, ready.name, PROOF_TOKENS)
    if _is_up(api, ready):
        return
    try:
        _load(api, ready, tell)
    except BaseException:
        with contextlib.suppress(AdvisorError):
            if _is_up(api, ready):
                clear(api, ready)
        raise


def _load(api: Api, ready: Ready, tell: Callable[[], None]) -> None:
    for _ in range(TRIES):
        # Children are shared by target whatever their drafter, so what runs on it has to go first.
        clear(api, ready)
        api.load(ready.name, tell)
        answer(api, ready.name, PROOF_TOKENS)
        tell()
        if _is_up(api, ready):
            return
    others = ", ".join(each.name for each in api.loaded()) or "none"
    raise RuntimeFailed(
        f"Ollama answers for {ready.name} with another model of the same target (loaded: {others})",
        hint="another program uses it at the same time; stop that one first",
        command="ollama ps",
    )


def _is_up(api: Api, ready: Ready) -> bool:
    """Whether the child was started for this model, as it is now: the list names the one it was started for."""
    return any(each.digest == ready.digest and each.name == full(ready.name) for each in api.loaded())


def is_listed(api: Api, name: str) -> bool:
    """Whether a child runs that was started for a model of that name, in whichever form."""
    return any(each.name == full(name) for each in api.loaded())


def clear(api: Api, ready: Ready) -> None:
    """Unload whatever runs on the model's target, and wait until it is gone."""
    siblings = {each.name for each in api.loaded() if _shares(api, each.name, ready.target)}
    if not siblings:
        return
    api.unload(ready.name)
    until = time.monotonic() + ENDS_S
    while siblings & {each.name for each in api.loaded()}:
        if time.monotonic() > until:
            raise RuntimeFailed(
                f"Ollama does not unload {', '.join(sorted(siblings))}, which uses the same target",
                hint="it may be answering; try again when it is done",
                command=f"ollama stop {min(siblings)}",
            )
        time.sleep(POLL_S)


def _shares(api: Api, name: str, target: str) -> bool:
    try:
        return api.show(name).target == target
    except AdvisorError:
        return True  # deleted while it was loaded: its target can no longer be asked for


def answer(api: Api, name: str, tokens: int, **options: int) -> float | None:
    """Have it answer something short, greedily; tokens per second, where it tells.

    Raises:
        RuntimeFailed: it fails, or stops in the middle.
    """
    last: dict[str, object] = {}
    for said in api.generate(name, prompt=QUESTION, options={"temperature": 0, "num_predict": tokens, **options}):
        last = dict(said)
    return rate(last.get("eval_count"), last.get("eval_duration"))


def rate(count: object, nanoseconds: object) -> float | None:
    """Tokens per second; counters that are zero are left out of the reply."""
    if isinstance(count, int) and isinstance(nanoseconds, int) and count > 0 and nanoseconds > 0:
        return count / nanoseconds * 1e9
    return None


# ---- Does it draft?


def drafting(api: Api, name: str, version: str) -> Verdict:
    """Whether the drafter works: by the log, else by comparing speeds, else it cannot be known."""
    found = log.find(api.where)
    for _ in range(TRIES):
        if found is None:
            break
        said = _overheard(api, name, found)
        # Two answers at once are not told apart; none means that this is the log of another server.
        if said.answers == 1 and said.drafted:
            return Verdict(active=True, reason="the server's log counts drafts")
        if said.answers == 1:
            more = "" if reaches(version, ADVISED) else f"; Ollama {words(ADVISED)} or newer is advised"
            return Verdict(active=False, reason=f"the server's log shows an answer without drafts{more}")
    return _compared(api, name, "its log is on another machine" if not api.where.local else "its log cannot be read")


def _overheard(api: Api, name: str, found: log.Log) -> log.Counted:
    """What the log says of one short answer."""
    mark = found.mark()
    answer(api, name, PROOF_TOKENS)
    return log.counted(found.settled(mark))


def _compared(api: Api, name: str, why: str) -> Verdict:
    """Speeds with the drafter and without it; each change starts the child anew."""
    answer(api, name, PROOF_TOKENS)
    drafted = answer(api, name, COMPARED_TOKENS)
    answer(api, name, PROOF_TOKENS, draft_num_predict=0)
    plain = answer(api, name, COMPARED_TOKENS, draft_num_predict=0)
    answer(api, name, PROOF_TOKENS)
    if not drafted or not plain:
        return Verdict(active=None, reason=f"it cannot be known: {why}, and the answers were too short to compare")
    gain = drafted / plain
    told = f"{gain:.2f} times the speed without it, as measured; {why}"
    if abs(gain - 1) <= TELLING:
        return Verdict(active=None, reason=f"it cannot be known whether it drafts: {told}")
    return Verdict(active=True, reason=f"{told}, so acceptance is not known")


# ---- The server itself


def start(where: Address, program: Path) -> None:
    """Start `ollama serve` and leave it running, with a log of its own.

    Raises:
        NoBackend: it does not come up.
    """
    from advisor.running import sessions  # noqa: PLC0415

    path = sessions.log_of(log.OWN)
    apart = {"creationflags": 0x00000008} if sys.platform == "win32" else {"start_new_session": True}
    try:
        with path.open("ab") as out:
            child = subprocess.Popen(
                [program, "serve"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, address.VARIABLE: f"{where.host}:{where.port}"},
                **apart,
            )
    except OSError as error:
        raise NoBackend(f"{program} cannot be started: {error.strerror}") from None
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and child.poll() is None:
        if address.version(where) is not None:
            return
        time.sleep(POLL_S)
    if child.poll() is None:
        child.terminate()
    raise NoBackend("`ollama serve` does not come up", hint=f"its log is {path}")
