"""The native engine against llama-server and against itself: same files, threads, prompts; greedy.

    python -m tests.bench.engine [--only plain,fixed,adaptive,never,shapes,limit] [--json]

llama-server is the one that LLAMA_SERVER names, that is installed, or that is built once from the same llama.cpp (by
`python -m tests.tools.llama_server`, five minutes). To be fair, one of your own should be built for the same
instructions as ours (CMAKE_ARGS=-DGGML_NATIVE=OFF).

Two servers are asked in turn, prompt by prompt; a number is the median over those pairs, and behind it stands where
the medians of more such pairs would lie, 19 times in 20: a miss whose bar is between the two is within the noise. Each
says itself how long it decoded. `shapes` is a pair with E2B's shapes and random weights (2.7 GB, written once into the
user's cache), `limit` runs inside this process and shows what the costs of this machine allow. Exit code 1 where a bar
is missed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from backends.native.depth import AUTO
from backends.native.engine import Engine, Spent, cores
from backends.native.tally import Tally
from tests.bench.servers import CONTEXT, DEFAULT, Case, Paired, interval, llama_server, native_server, paired
from tests.engine import random_pair
from tests.engine.random_pair import Pair
from tests.tools import llama_server as programs
from tests.tools import random_gguf

DEMO = Path(__file__).parents[2] / "profiles" / "demo"
LENGTHS = (1, 2, 3, 5)
SHIFT = 41
"""Characters."""
REAL_TOKENS, REAL_ROUNDS = 16, 6
"""For a model of a real size, each of whose tokens takes a moment, and with only three prompts."""
REAL_CASES = [Case("chat", text) for text in ("What is a drafter?", "Write a function.", "1 2 3 4 5 6 7 8")]


class Bar(NamedTuple):
    """The median of the pairs' `ratios` must not be below `least`."""

    what: str
    ratios: list[float]
    least: float
    detail: str = ""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def missed(self) -> bool:
        return self.ratio < self.least

    def line(self) -> str:
        mark = "MISS" if self.missed else "ok  "
        unsure = ", within the noise" if self.missed and interval(self.ratios)[1] >= self.least else ""
        return f"{mark} {self.what:58} {spread(self.ratios)}  (at least {self.least:.2f}{unsure})  {self.detail}"

    def json(self) -> dict[str, Any]:
        low, high = interval(self.ratios)
        return {
            "what": self.what,
            "ratio": self.ratio,
            "low": low,
            "high": high,
            "pairs": len(self.ratios),
            "least": self.least,
            "detail": self.detail,
        }


def spread(ratios: list[float]) -> str:
    """The median, and between which two the medians of more such pairs would lie 19 times in 20."""
    low, high = interval(ratios)
    return f"{statistics.median(ratios):6.3f} [{low:.3f}, {high:.3f}]"


class Bench(NamedTuple):
    """What to measure, and how often. `say` prints a line."""

    pair: Pair
    cases: list[Case]
    rounds: int
    tokens: int
    threads: int
    say: Callable[[str], None]


def cases(each: int) -> list[Case]:
    """As many questions as code, documentation and text that repeats. Half of the questions the demo model knows."""
    held = json.loads((DEMO / "held_out.json").read_text(encoding="utf-8"))
    chats = [
        Case(kind, f"<|turn>user\n{text}<turn|>\n<|turn>model\n")
        for kind in ("stated", "free")
        for text in held[kind][: (each + 1) // 2]
    ]
    code = shifted([text for text in held["passages"] if "def " in text], each)
    prose = shifted([text for text in held["passages"] if "def " not in text], each)
    again = [f"{text[:400]}\n\n{text[:400]}\n\n{text[:120]}" for text in code[::-1]]
    groups = {"code": code, "prose": prose, "repetition": again}
    return chats + [Case(kind, text) for kind, texts in groups.items() for text in texts]


def shifted(passages: list[str], count: int) -> list[str]:
    """So many texts: the passages, then the same from a little later on.

    Both sides round otherwise, so that their answers part and each has its luck with the drafter's guesses. With four
    texts of a kind, luck alone came to 3 %; with many it comes to nothing.
    """
    return [passages[i % len(passages)][SHIFT * (i // len(passages)) :] for i in range(count)]


def by_kind(cases: list[Case]) -> dict[str, list[Case]]:
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        kinds.setdefault(case.kind, []).append(case)
    return kinds


def level(bench: Bench, name: str, lengths: tuple[int, ...]) -> Iterator[Bar]:
    """Each fixed length, 0 for plain decoding, against llama-server with the same."""
    with native_server(bench.pair, bench.threads) as ours:
        for length in lengths:
            with llama_server(programs.get(), bench.pair, length, bench.threads) as theirs:
                found = paired(ours, theirs, bench.cases, bench.rounds, bench.tokens, ours=length)
            what = f"{length} drafted / llama-server with {length}" if length else "plain decoding / llama-server"
            yield Bar(f"{name}: {what}", found.ratios, 1.0, found.detail())


def plain(bench: Bench) -> Iterator[Bar]:
    return level(bench, "demo", (0,))


def fixed(bench: Bench) -> Iterator[Bar]:
    return level(bench, "demo", LENGTHS)


def shapes(bench: Bench) -> Iterator[Bar]:
    """A pair of a real model's shapes: what a naive loop loses is little there, and what a kernel costs is much."""
    real = bench._replace(pair=random_gguf.pair("e2b"), cases=REAL_CASES, rounds=REAL_ROUNDS, tokens=REAL_TOKENS)
    return level(real, "E2B's shapes", (0, *LENGTHS))


def adaptive(bench: Bench) -> Iterator[Bar]:
    """As many as pay, against llama-server's default, kind by kind and over all."""
    with (
        native_server(bench.pair, bench.threads) as ours,
        llama_server(programs.get(), bench.pair, DEFAULT, bench.threads) as theirs,
    ):
        found: list[Paired] = []
        for kind, of_kind in by_kind(bench.cases).items():
            one = paired(ours, theirs, of_kind, bench.rounds, bench.tokens, ours="auto")
            bench.say(f"     adaptive, {kind:12} {spread(one.ratios)}  {one.detail()}")
            found.append(one)
    ratios = [ratio for one in found for ratio in one.ratios]
    yield Bar(f"adaptive / llama-server's default ({DEFAULT}), all kinds", ratios, 1.15)


def never(bench: Bench) -> Iterator[Bar]:
    """The demo's drafter with random weights, and what llama-server makes of it; then a pair whose target is so small
    that a token takes less than a guess of its drafter: nothing but overhead."""
    with tempfile.TemporaryDirectory() as folder:
        drafter = random_gguf.scrambled(bench.pair.drafter, Path(folder) / "scrambled.gguf")
        found = unhelped(bench, Pair(bench.pair.target, drafter))
        yield Bar("adaptive with a drafter that is never right / plain", found.ratios, 0.98, found.detail())
        found = unhelped(bench, random_pair.write(Path(folder), endless=True))
        bench.say(f"     the same with a target smaller than its drafter: {spread(found.ratios)}  {found.detail()}")


def unhelped(bench: Bench, pair: Pair) -> Paired:
    """Adaptive against plain decoding; what llama-server's default makes of its own plain decoding is said."""
    with native_server(pair, bench.threads) as ours:
        found = paired(ours, ours, bench.cases, bench.rounds, bench.tokens, ours="auto", theirs=0)
    program = programs.get()
    with (
        llama_server(program, pair, DEFAULT, bench.threads) as drafting,
        llama_server(program, pair, 0, bench.threads) as undrafted,
    ):
        theirs = paired(drafting, undrafted, bench.cases, bench.rounds, bench.tokens, ours=None)
    bench.say(f"     llama-server there: {spread(theirs.ratios)}  {theirs.detail()}")
    return found


class Sum:
    """Adds up the answers of one draft length."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.spent = [0.0] * len(Spent._fields)
        self.speeds: list[float] = []

    def add(self, engine: Engine, prompt: list[int], drafts: int, tokens: int) -> None:
        """One answer."""
        tally, began = Tally(), 0.0
        for found in engine.generate(prompt, draft_tokens=drafts, max_tokens=tokens):
            began = began or time.perf_counter()
            tally.add(found)
            self.spent = [a + b for a, b in zip(self.spent, found.spent, strict=True)]
        tally.seconds = time.perf_counter() - began
        self.tally.merge(tally)
        self.speeds.append(tally.per_second)

    @property
    def rounds(self) -> int:
        """Without the first of each answer, which belongs to the prompt."""
        return max(1, sum(self.tally.lengths))

    def over(self, other: Sum) -> list[float]:
        """Speeds as shares of another length's, answer by answer."""
        return [a / b for a, b in zip(self.speeds, other.speeds, strict=True)]

    def gain(self, other: Sum) -> float:
        return statistics.median(self.over(other))


def limit(bench: Bench) -> Iterator[Bar]:
    """Each fixed length and the adaptive one against plain decoding, and what the measured costs allow."""
    engine = Engine(bench.pair.target, bench.pair.drafter, context_tokens=CONTEXT, threads=bench.threads)
    kinds: dict[str, dict[int, Sum]] = {}
    try:
        engine.warm(AUTO)
        for kind, of_kind in by_kind(bench.cases).items():
            prompts = [engine.target.model.tokenize(case.text, special=True, begin=True) for case in of_kind]
            for number in range(bench.rounds + 1):
                if number < 2:  # the first time warms up
                    kinds[kind] = {length: Sum() for length in (0, 1, 2, 3, 4, 5, 7, 15, AUTO)}
                for prompt in prompts:
                    for length, each in kinds[kind].items():
                        each.add(engine, prompt, length, bench.tokens)
            yield judged(bench, kind, kinds[kind])
    finally:
        engine.close()
    yield overall(kinds)


def judged(bench: Bench, kind: str, sums: dict[int, Sum]) -> Bar:
    """A table of what a round costs and gives: no length can gain more than with guesses that are all right."""
    bench.say(f"\n{kind}: milliseconds a round, and tokens/s against plain decoding")
    bench.say("drafts    draft   verify   sample   Python   tokens/s   times plain   all right   accepted by position")
    alone = sum(sums[0].spent) / sums[0].rounds
    for length, each in sums.items():
        cost = sum(each.spent) / each.rounds
        parts = "".join(f"{1000 * part / each.rounds:9.3f}" for part in each.spent)
        most = "         " if length == AUTO else f"{(length + 1) * alone / cost:9.2f}"
        shares = " ".join(f"{share:.0%}" for share in each.tally.accepted_per_position[:8])
        speed, name = statistics.median(each.speeds), "auto" if length == AUTO else str(length)
        bench.say(f"{name:6}{parts} {speed:10.4g} {each.gain(sums[0]):13.3f}   {most}   {shares}")
    auto, verify, draft = sums[AUTO], Spent._fields.index("verify"), Spent._fields.index("draft")
    used = {n: rounds for n, rounds in enumerate(auto.tally.lengths) if rounds}
    bench.say("lengths used: " + ", ".join(f"{n}: {rounds}" for n, rounds in used.items()))
    rows = {n + 1: each.spent[verify] / each.rounds for n, each in sums.items() if n != AUTO}
    guess = sums[DEFAULT].spent[draft] / max(1, sums[DEFAULT].tally.drafted)
    costs = ", ".join(f"{n}: {seconds / rows[1]:.2f}" for n, seconds in rows.items())
    bench.say(f"in plain steps: rows {costs}; a guess {guess / rows[1]:.2f}")
    return against_best(kind, sums)


def against_best(kind: str, sums: dict[int, Sum]) -> Bar:
    """The adaptive one's speed over the best fixed length's."""
    best = max((length for length in sums if length != AUTO), key=lambda length: sums[length].gain(sums[0]))
    detail = f"{sums[AUTO].gain(sums[0]):.2f} times plain"
    return Bar(f"adaptive / best fixed length ({best}), {kind}", sums[AUTO].over(sums[best]), 0.95, detail)


def overall(kinds: dict[str, dict[int, Sum]]) -> Bar:
    """The same over all kinds: one length for everything against the adaptive one."""
    sums = {length: Sum() for length in next(iter(kinds.values()))}
    for of_kind in kinds.values():
        for length, each in of_kind.items():
            sums[length].speeds += each.speeds
    return against_best("all kinds", sums)


SECTIONS: dict[str, Callable[[Bench], Iterator[Bar]]] = {
    "plain": plain,
    "fixed": fixed,
    "adaptive": adaptive,
    "never": never,
    "shapes": shapes,
    "limit": limit,
}


def chosen(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - SECTIONS.keys():
        raise argparse.ArgumentTypeError(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return names


def arguments(argv: list[str] | None) -> argparse.Namespace:
    summary, _, more = (__doc__ or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.engine", None, summary, more, formatter_class=form)
    parser.add_argument(
        "--only", type=chosen, default=list(SECTIONS), metavar="SECTIONS", help="some of them, with commas between"
    )
    parser.add_argument("--target", type=Path, default=DEMO / "demo.gguf", help="instead of the demo pair's")
    parser.add_argument("--drafter", type=Path, default=DEMO / "demo-drafter.gguf", help="likewise")
    parser.add_argument("--each", type=int, default=12, help="prompts of each kind (%(default)s)")
    parser.add_argument("--tokens", type=int, default=96, help="of each answer at most (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="times that everything is asked (%(default)s)")
    parser.add_argument("--threads", type=int, default=cores(), help="of both sides (physical cores: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the ratios as one JSON document; the rest to stderr")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 where a bar is missed."""
    options = arguments(argv)
    say = functools.partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
    pair = Pair(options.target, options.drafter)
    bench = Bench(pair, cases(options.each), options.rounds, options.tokens, options.threads, say)
    say(
        f"{pair.target.name}, {bench.threads} threads, {len(bench.cases)} prompts, {bench.rounds} times, "
        f"{bench.tokens} tokens; load {os.getloadavg()[0]:.1f}"
    )
    bars = []
    for name in options.only:
        for bar in SECTIONS[name](bench):
            say(bar.line())
            bars.append(bar)
    missed = [bar.what for bar in bars if bar.missed]
    say(f"\n{len(bars) - len(missed)} of {len(bars)} bars" + (f"; missed: {'; '.join(missed)}" if missed else ""))
    if options.json:
        print(json.dumps({"threads": bench.threads, "bars": [bar.json() for bar in bars]}, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
