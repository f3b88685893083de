"""What decoding 1 to 16 tokens together costs here, and reading a prompt, timed:
`python -m backends.native.rows MODEL [SECONDS [GPU_LAYERS]]`.

A process of its own, because llama.cpp may abort. Prints one JSON object: the seconds of each number of rows when
nothing was in the way (the first tenth of its times) and usually (the median), how often each was timed, what the
model's weights weigh, and the seconds of a prompt.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from backends.native.engine import cores
from backends.native.target import Target

ROWS = range(1, 17)
DEPTH = 64
MOST_PASSES = 40
WARM = 1
PROMPTS = (128, 512)
"""Tokens of the prompt that is read: the longer one where the shorter one took less than `PROMPT_S`."""
PROMPT_S, PROMPT_TIMES = 1.0, 3
CONTEXT = 1024


class Prompt(NamedTuple):
    """Reading one. `seconds`: of the quickest time."""

    tokens: int
    seconds: float


def measure(model: Path, seconds: float, gpu_layers: int = 0) -> tuple[dict[int, list[float]], Prompt]:
    """Seconds of each number of rows, all of them in turn, so that a busy moment hits none alone; and of a prompt."""
    target = Target(model, context_tokens=CONTEXT, threads=cores(), gpu_layers=gpu_layers, drafter=False)
    found: dict[int, list[float]] = {rows: [] for rows in ROWS}
    try:
        prompt = reading(target)
        target.prefill([2] + [10] * DEPTH)
        until = time.perf_counter() + seconds
        for number in range(MOST_PASSES + WARM):
            for rows in ROWS:
                began, length = time.perf_counter(), target.length
                target.step([10] * rows)
                target.keep(length)
                if number >= WARM:
                    found[rows].append(time.perf_counter() - began)
            if time.perf_counter() > until and number >= WARM:
                break
    finally:
        target.close()
    return found, prompt


def reading(target: Target) -> Prompt:
    """The longest prompt for which there is time: a second of it is enough where the processor is slow."""
    found = Prompt(0, 0.0)
    for tokens in PROMPTS:
        times = []
        for _ in range(PROMPT_TIMES):
            began = time.perf_counter()
            target.prefill([2] + [10] * (tokens - 1))
            times.append(time.perf_counter() - began)
            if len(times) > 1 and sum(times) > PROMPT_S:
                break
        found = Prompt(tokens, min(times))
        if found.seconds * PROMPTS[-1] / tokens > PROMPT_S:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser("python -m backends.native.rows")
    parser.add_argument("model", type=Path)
    parser.add_argument("seconds", type=float, nargs="?", default=10.0)
    parser.add_argument("gpu_layers", type=int, nargs="?", default=0)
    asked = parser.parse_args()
    found, prompt = measure(asked.model, asked.seconds, asked.gpu_layers)
    rows = {str(count): sorted(times)[len(times) // 10] for count, times in found.items()}
    usual = {str(count): median(times) for count, times in found.items()}
    told = {"rows": rows, "usual": usual, "times": len(found[1]), "bytes": asked.model.stat().st_size}
    print(json.dumps({**told, "prompt": prompt._asdict()}))


if __name__ == "__main__":
    main()
