"""Rules for what is counted, and for the end: stats tell the truth, stop leaves nothing."""

from __future__ import annotations

import socket
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from advisor.errors import AdvisorError
from advisor.running.client import Done
from backends.base import Endpoint, Stats
from backends.conformance.bench import Bench, among, processes
from backends.conformance.replies import QUESTION, TOKENS
from backends.conformance.rules import Broken, Skipped, copied, require
from backends.conformance.serving import GONE_S, wait_gone
from backends.listening import listens

ANSWERS = 2


class Growth(NamedTuple):
    """What some answers said they took, and what the counters grew by meanwhile. `drafted` None: nobody says."""

    said: int
    said_drafted: int | None
    predicted: int
    drafted: int
    after: Stats


def stats_drafting(bench: Bench) -> str | None:
    """With a drafter, counters grow by what the replies say, and it is called active because drafts are counted."""
    if not bench.may_draft():
        raise Skipped(bench.found.why_not or "there is no drafter, or this runtime takes none")
    endpoint = bench.endpoint(drafter=True)
    require(endpoint.drafter, "the plan has a drafter, the endpoint says that it has none")
    grown = _growth(bench, endpoint)
    _consistent(grown)
    require(grown.drafted > 0, f"nothing was drafted in {grown.said} tokens, though the endpoint has a drafter")
    if grown.said_drafted is not None:
        require(
            grown.drafted == grown.said_drafted,
            f"replies say {grown.said_drafted} drafted tokens, the counters grew by {grown.drafted}",
        )
    return None if grown.after.memory_bytes else "it does not know how much memory it uses"


def stats_plain(bench: Bench) -> None:
    """Without a drafter, nothing is counted as drafted, and none is called active."""
    endpoint = bench.endpoint(drafter=False)
    require(not endpoint.drafter, "the plan has no drafter, the endpoint says that it has one")
    grown = _growth(bench, endpoint)
    _consistent(grown)
    require(not grown.after.drafted, f"{grown.after.drafted} tokens are counted as drafted")


def _growth(bench: Bench, endpoint: Endpoint) -> Growth:
    before = bench.backend.stats(endpoint)
    said, drafted = 0, []
    with bench.client(endpoint) as own:
        for _ in range(ANSWERS):
            *_, done = own.chat([{"role": "user", "content": QUESTION}], temperature=0, max_tokens=TOKENS)
            require(isinstance(done, Done), "an answer does not end with its counts")
            timings = done.timings if isinstance(done, Done) else None
            said += (timings and timings.predicted_n) or 0
            drafted.append(timings.draft_n if timings else None)
    until = time.monotonic() + GONE_S
    while True:
        after = bench.backend.stats(endpoint)
        grown = after.predicted_tokens - before.predicted_tokens
        if grown >= said or after.unknown or time.monotonic() > until:
            break
        time.sleep(0.05)
    known = [count for count in drafted if count is not None]
    return Growth(said, sum(known) if known else None, grown, after.drafted - before.drafted, after)


def _consistent(grown: Growth) -> None:
    """What holds with and without a drafter."""
    stats = grown.after
    claims = "it is called active" if stats.drafter_active else "it is not called active"
    require(stats.drafter_active == (stats.drafted > 0), f"{claims}, with {stats.drafted} drafted tokens counted")
    require(0 <= stats.accepted <= stats.drafted, f"{stats.accepted} of {stats.drafted} drafted tokens were accepted")
    require(all(0 <= share <= 1 for share in stats.accepted_per_position), "a share of accepted drafts is above 1")
    require(stats.memory_bytes is None or stats.memory_bytes > 0, f"it uses {stats.memory_bytes} bytes of memory")
    if stats.unknown:
        raise Skipped(f"the backend cannot count here: {stats.unknown}")
    # Some servers count the first token of an answer to its prompt.
    close = abs(grown.predicted - grown.said) <= ANSWERS
    require(close, f"replies say {grown.said} tokens, the counters grew by {grown.predicted}")


def stop_frees(bench: Bench) -> None:
    """stop ends every process, frees the port and with it the memory, and stopping again is no error."""
    endpoint = bench.release()
    tree = processes(endpoint)
    bench.backend.stop(endpoint)
    _freed(bench, endpoint, tree)
    bench.backend.stop(endpoint)


def stop_elsewhere(bench: Bench) -> None:
    """Started detached on a given port it is there, and an advisor that has only its record can stop it."""
    bench.usable()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    endpoint = bench.start(drafter=False, port=port, detached=True)
    require(
        bench.backend.shared or urlsplit(endpoint.base_url).port == port,
        f"it was to listen on port {port}, and is {endpoint.base_url}",
    )
    tree = processes(endpoint)
    try:
        other = type(bench.backend)()
    except TypeError:
        raise Skipped("another instance needs arguments") from None
    other.stop(copied(endpoint))
    bench.release()
    _freed(bench, endpoint, tree)


def _freed(bench: Bench, endpoint: Endpoint, tree: list[psutil.Process]) -> None:
    left = wait_gone(lambda: [process.pid for process in tree if _runs(process)])
    require(not left, f"processes still run: {left}")
    if bench.backend.shared:
        loaded = [each.name for each in bench.backend.held() if each.loaded]
        require(not among(endpoint.model, loaded), "its server still has the model loaded")
    else:
        require(not wait_gone(lambda: listens(endpoint.base_url)), f"somebody still listens at {endpoint.base_url}")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop_gone(bench: Bench) -> None:
    """Once its process was killed, stats says so with an AdvisorError, and stopping is no error."""
    endpoint = bench.endpoint()
    if not endpoint.pid:
        raise Skipped("it has no process of its own")
    bench.release()
    for process in processes(endpoint):
        process.kill()
    wait_gone(lambda: listens(endpoint.base_url))
    try:
        bench.backend.stats(endpoint)
    except AdvisorError:
        bench.backend.stop(endpoint)
        return
    raise Broken("stats still answers")


RULES = (stats_drafting, stop_frees, stats_plain, stop_elsewhere, stop_gone)
