"""The runtimes that read checkpoints, on the demo pair: `python -m tests.bench.runtimes [NAME ...]`.

Of each that is here two servers are started, without the drafter and with it, and asked in turn the question that the
pair was trained on, so that whatever else the machine does hits both. Tokens per second are those of whole answers, by
one clock: the servers count their speeds differently or not at all, and vLLM at times hands over a short answer in one
piece. Medians, as rows of the README's table. vLLM compiles its models when it starts, for a minute or two each.

`VLLM` and `MLX_VLM_SERVER` name programs of other environments; Transformers must be in this one.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from advisor.running import demo
from advisor.running.client import Client, Done, Text, Timings, joined
from backends.base import Backend, Model, Options, load
from profiles.demo import checkpoint

NAMES = ("transformers", "vllm", "mlx")
TOKENS = 200


class Answer(NamedTuple):
    """`tokens_per_s`: of the whole answer."""

    text: str
    tokens_per_s: float
    timings: Timings


class Found(NamedTuple):
    """Tokens per second without and with the drafter, in pairs; whether the texts were always the same."""

    plain: list[float]
    drafted: list[float]
    accepted: int
    guessed: int
    same: bool

    def row(self, name: str, version: str) -> str:
        without, with_it = statistics.median(self.plain), statistics.median(self.drafted)
        gain = statistics.median(b / a for a, b in zip(self.plain, self.drafted, strict=True))
        right = f"{self.accepted} of {self.guessed}" if self.guessed else "none"
        text = "same text" if self.same else "TEXTS DIFFER"
        return f"| `{name}` {version} | {without:.0f} | {with_it:.0f} | {gain:.2f} | {right} | {text} |"


@contextlib.contextmanager
def server(backend: Backend, model: Model, threads: int | None) -> Iterator[Client]:
    endpoint = backend.start(backend.plan(model, Options(threads=threads)))
    try:
        with joined(backend, endpoint) as client:
            yield client
    finally:
        backend.stop(endpoint)


def answer(client: Client) -> Answer:
    """The second of two greedy ones. The first lets the other server come to rest: one that has just answered spins for
    a while on the cores that this one needs."""
    for _ in range(2):
        begun = time.perf_counter()
        *texts, done = client.chat([{"role": "user", "content": demo.QUESTION}], temperature=0, max_tokens=TOKENS)
        seconds = time.perf_counter() - begun
    if not isinstance(done, Done) or not done.timings.predicted_n:
        raise SystemExit("an answer did not tell how many tokens it has")
    text = "".join(each.text for each in texts if isinstance(each, Text))
    return Answer(text, done.timings.predicted_n / seconds, done.timings)


def compare(plain: Client, drafting: Client, rounds: int) -> Found:
    """Asked in turn, each `rounds` times after a first one that counts nothing."""
    pairs = [(answer(plain), answer(drafting)) for _ in range(rounds + 1)]
    counted = [drafted.timings for _, drafted in pairs[1:]]
    return Found(
        plain=[one.tokens_per_s for one, _ in pairs[1:]],
        drafted=[other.tokens_per_s for _, other in pairs[1:]],
        accepted=sum(each.draft_n_accepted or 0 for each in counted),
        guessed=sum(each.draft_n or 0 for each in counted),
        same=len({each.text for pair in pairs for each in pair}) == 1,
    )


def measure(name: str, rounds: int, threads: int | None) -> None:
    backend = load(name)
    here = backend.detect()
    if not here.available:
        print(f"| `{name}` | {here.why_not} |")
        return
    files = checkpoint.make()
    model = msgspec.structs.replace(demo.pair(), target=files.target, drafter=files.drafter)
    alone = msgspec.structs.replace(model, drafter=None, draft_tokens=0)
    with server(backend, alone, threads) as plain, server(backend, model, threads) as drafting:
        print(compare(plain, drafting, rounds).row(name, here.version or ""), flush=True)


def main() -> None:
    taken = argparse.ArgumentParser(prog="python -m tests.bench.runtimes")
    taken.add_argument("names", nargs="*", default=NAMES, help=f"{', '.join(NAMES)}; all by default")
    taken.add_argument("--rounds", type=int, default=11, help="answers of each that count")
    taken.add_argument("--threads", type=int, help="of Transformers; one per core by default")
    options = taken.parse_args()
    print("| backend | without | with | gain | right | |\n|---|---|---|---|---|---|", flush=True)
    for name in options.names:
        measure(name, options.rounds, options.threads)


if __name__ == "__main__":
    main()
