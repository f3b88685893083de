"""The runtimes that read checkpoints, on the demo pair: `python -m tests.bench.runtimes [NAME ...]`.

Of each that is here two servers are started, without the drafter and with it, and asked in turn the question that the
pair was trained on, so that whatever else the machine does hits both. Medians, as rows of the README's table. vLLM
compiles its models when it starts, for a minute or two each.

`VLLM` and `MLX_VLM_SERVER` name programs of other environments; Transformers must be in this one.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from advisor.running import demo
from advisor.running.client import Client, Done, Text, joined
from backends.base import Backend, Model, Options, load
from profiles.demo import checkpoint

NAMES = ("transformers", "vllm", "mlx")
TOKENS = 200


class Answer(NamedTuple):
    text: str
    done: Done


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
def server(backend: Backend, model: Model) -> Iterator[Client]:
    endpoint = backend.start(backend.plan(model, Options()))
    try:
        with joined(backend, endpoint) as client:
            yield client
    finally:
        backend.stop(endpoint)


def answer(client: Client) -> Answer:
    """The second of two greedy ones, with the speed that the server or the clock tells. The first lets the other server
    come to rest: one that has just answered spins for a while on the cores that this one needs."""
    for _ in range(2):
        *texts, done = client.chat([{"role": "user", "content": demo.QUESTION}], temperature=0, max_tokens=TOKENS)
    if not isinstance(done, Done) or not done.timings.predicted_per_second:
        raise SystemExit("an answer came in one piece: it has no speed")
    return Answer("".join(each.text for each in texts if isinstance(each, Text)), done)


def compare(plain: Client, drafting: Client, rounds: int) -> Found:
    """Asked in turn, each `rounds` times after a first one that counts nothing."""
    pairs = [(answer(plain), answer(drafting)) for _ in range(rounds + 1)]
    counted = [pair[1].done.timings for pair in pairs[1:]]
    return Found(
        plain=[one.done.timings.predicted_per_second or 0 for one, _ in pairs[1:]],
        drafted=[other.done.timings.predicted_per_second or 0 for _, other in pairs[1:]],
        accepted=sum(each.draft_n_accepted or 0 for each in counted),
        guessed=sum(each.draft_n or 0 for each in counted),
        same=len({each.text for pair in pairs for each in pair}) == 1,
    )


def measure(name: str, rounds: int) -> None:
    backend = load(name)
    here = backend.detect()
    if not here.available:
        print(f"| `{name}` | {here.why_not} |")
        return
    files = checkpoint.make()
    model = msgspec.structs.replace(demo.pair(), target=files.target, drafter=files.drafter)
    alone = msgspec.structs.replace(model, drafter=None, draft_tokens=0)
    with server(backend, alone) as plain, server(backend, model) as drafting:
        print(compare(plain, drafting, rounds).row(name, here.version or ""), flush=True)


def main() -> None:
    taken = argparse.ArgumentParser(prog="python -m tests.bench.runtimes")
    taken.add_argument("names", nargs="*", default=NAMES, help=f"{', '.join(NAMES)}; all by default")
    taken.add_argument("--rounds", type=int, default=11, help="answers of each that count")
    options = taken.parse_args()
    print("| backend | without | with | gain | right | |\n|---|---|---|---|---|---|", flush=True)
    for name in options.names:
        measure(name, options.rounds)


if __name__ == "__main__":
    main()
