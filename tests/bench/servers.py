"""Two servers on the same files, asked in turn: whatever else the machine does hits both."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from backends.base import Model, Options
from backends.ggml import NO_RACES
from backends.native import Native
from backends.native.depth import AUTO
from tests.engine.random_pair import Pair

CONTEXT = 2048
DEFAULT = 3
"""llama-server's draft length where nobody says otherwise."""
WAIT = 300


class Case(NamedTuple):
    kind: str
    text: str


class Server:
    """Either server by its native completion route."""

    def __init__(self, url: str, path: str, fixed: dict[str, Any]) -> None:
        self.http = httpx.Client(base_url=url, timeout=WAIT, trust_env=False)
        self._path, self._fixed = path, fixed

    def ask(self, text: str, tokens: int, **more: Any) -> dict[str, Any]:
        """The timings of one greedy answer."""
        body = {"prompt": text, "temperature": 0, "cache_prompt": False, **self._fixed, **more}
        body |= {"n_predict": tokens, "max_tokens": tokens}
        reply = self.http.post(self._path, json=body)
        reply.raise_for_status()
        timings: dict[str, Any] = reply.json()["timings"]
        return timings


@contextlib.contextmanager
def llama_server(program: Path, pair: Pair, drafts: int, threads: int) -> Iterator[Server]:
    """llama.cpp's own server; 0 drafts: without the drafter."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [str(program), "-m", str(pair.target), "-c", str(CONTEXT), "-np", "1", "--no-webui"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "-t", str(threads), "-tb", str(threads)]
    if drafts:
        argv += ["--model-draft", str(pair.drafter), "--spec-type", "draft-mtp", "--spec-draft-n-max", str(drafts)]
        argv += ["--spec-draft-threads", str(threads)]
    with tempfile.TemporaryFile() as log:
        environment = {**NO_RACES, **os.environ}
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + WAIT
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(url + "/health", timeout=1, trust_env=False).status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise SystemExit(f"llama-server did not start:\n{log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.1)
            yield Server(url, "/completion", {"ignore_eos": False})
        finally:
            process.terminate()
            process.wait(10)


@contextlib.contextmanager
def native_server(pair: Pair, threads: int) -> Iterator[Server]:
    backend = Native()
    model = Model(name="bench", target=pair.target, drafter=pair.drafter, draft_tokens=AUTO, context_tokens=CONTEXT)
    endpoint = backend.start(backend.plan(model, Options(threads=threads)))
    try:
        yield Server(endpoint.base_url, endpoint.base_url + "/completions", {})
    finally:
        backend.stop(endpoint)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Between which two of the ratios the median of many more would lie, with 95 %: by rank, however they scatter."""
    ranked, reach = sorted(ratios), 0.98 * math.sqrt(len(ratios))
    low = max(0, math.floor(len(ranked) / 2 - reach))
    return ranked[low], ranked[-1 - low]


class Paired(NamedTuple):
    """Tokens per second of two sides, asked in turn."""

    ours: list[float]
    theirs: list[float]
    drafted: int
    accepted: int
    their_drafted: int = 0
    their_accepted: int = 0

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    def detail(self) -> str:
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        text = f"{ours:6.4g} against {theirs:6.4g} tokens/s"
        if self.drafted:
            text += f"; accepted {self.accepted / self.drafted:.0%} of {self.drafted}"
        if self.their_drafted:
            text += f", there {self.their_accepted / self.their_drafted:.0%} of {self.their_drafted}"
        return text


def paired(
    one: Server, other: Server, cases: Sequence[Case], rounds: int, tokens: int, *, ours: Any, theirs: Any = None
) -> Paired:
    """Ask both all prompts in turn. `ours`, `theirs`: the draft length in the request, None for what the server has."""
    speeds: tuple[list[float], list[float]] = ([], [])
    drafted, accepted = [0, 0], [0, 0]
    for number in range(rounds + 1):
        for index, case in enumerate(cases):
            sides = [(0, one, ours), (1, other, theirs)]
            # Whoever is second finds a warmer or a busier machine: take turns in that too.
            for side, server, length in sides if (index + number) % 2 else sides[::-1]:
                more = {} if length is None else {"draft_tokens": length}
                found = server.ask(case.text, tokens, **more)
                if not number:
                    continue  # the first time warms up
                speeds[side].append(found["predicted_per_second"])
                drafted[side] += found.get("draft_n") or 0
                accepted[side] += found.get("draft_n_accepted") or 0
    # Answers of a few tokens measure nothing, but they do on both sides: pairs stay pairs.
    return Paired(speeds[0], speeds[1], drafted[0], accepted[0], drafted[1], accepted[1])
