"""What `advisor calibrate` is worth: speeds predicted by the formula and with this machine's calibration, and measured.

    python -m tests.bench.calibration [--only e2b,e4b,12b] [--depths 64,512] [--fresh]

Models have the shapes of real ones and random weights; they are written once into the user's cache (2.7, 4.3 and
6.7 GB). The native engine measures them in this process; so does llama-server where LLAMA_SERVER names one. The
calibration is the one that is kept for this machine; where there is none, or with --fresh, it is made first. The
machine should do nothing else meanwhile. Exit code 1 where the calibration brings fewer predictions nearer than it
takes away.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from math import log
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from advisor.choice import estimate, subject
from advisor.choice.request import choose_backend
from advisor.files import gguf
from advisor.hardware.detection import detect
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.prediction import known, speed
from advisor.prediction.speed import Setup
from advisor.trials import calibration
from backends.native.engine import Engine, Spent, cores
from tests.bench import servers
from tests.engine.random_pair import Pair
from tests.tools import random_gguf

CONTEXT = 4096
ROWS = (1, 2, 4, 8)
GUESSES, ANSWER = 3, 8
STEPS_S, STEPS = 8.0, 20
"""Longest that the steps at one depth are timed, and how often each at most."""
READINGS = 3
ALL_LAYERS = 99
ALIKE = 0.02
"""Predictions that differ by less are as good as each other, as a logarithm."""

Key = tuple[str, str, int]
"""Runtime, what was timed, and at which depth."""


class Row(NamedTuple):
    """Rates: of tokens, prompt tokens, steps or guesses, a second."""

    what: str
    formula: float
    calibrated: float
    measured: float

    @property
    def nearer(self) -> int:
        """Whether the calibration is nearer to what was measured (1), the formula (-1), or neither."""
        before, after = abs(log(self.formula / self.measured)), abs(log(self.calibrated / self.measured))
        return 0 if abs(before - after) < ALIKE else 1 if after < before else -1

    def line(self) -> str:
        rates = f"{self.formula:9.3g} {self.calibrated:11.3g} {self.measured:9.3g}"
        return f"{self.what:44}{rates}   {self.formula / self.measured:7.2f} {self.calibrated / self.measured:11.2f}"


def measured(pair: Pair, depths: Sequence[int], *, gpu: bool) -> dict[Key, float]:
    """The native engine's rates."""
    found: dict[Key, float] = {}
    engine = Engine(pair.target, pair.drafter, context_tokens=CONTEXT, gpu_layers=ALL_LAYERS if gpu else 0)
    try:
        engine.warm(GUESSES)
        for depth in depths:
            found["native", "prompt", depth] = depth / reading(engine, text(depth))
            for rows, seconds in steps(engine).items():
                found["native", f"rows {rows}", depth] = 1 / seconds
        spent, drafted = [0.0] * len(Spent._fields), 0
        for each in engine.generate(text(depths[0]), draft_tokens=GUESSES, max_tokens=ANSWER):
            spent = [a + b for a, b in zip(spent, each.spent, strict=True)]
            drafted += each.drafted
        if drafted:
            found["native", "guess", depths[0]] = drafted / spent[Spent._fields.index("draft")]
    finally:
        engine.close()
    return found


def text(tokens: int) -> list[int]:
    """So many tokens, hardly two of them the same."""
    return [2, *(300 + 7 * place % 5000 for place in range(tokens - 1))]


def reading(engine: Engine, prompt: list[int]) -> float:
    """Seconds of the quickest time: the first one maps pages that later ones find."""
    times = []
    for _ in range(READINGS):
        began = time.perf_counter()
        engine.target.prefill(prompt)
        times.append(time.perf_counter() - began)
    return min(times)


def steps(engine: Engine) -> dict[int, float]:
    """Seconds of a step by its rows, all of them in turn."""
    times: dict[int, list[float]] = {rows: [] for rows in ROWS}
    target, until = engine.target, time.perf_counter() + STEPS_S
    for number in range(STEPS + 1):
        for rows in ROWS:
            began, length = time.perf_counter(), target.length
            target.step([10] * rows)
            target.keep(length)
            if number:
                times[rows].append(time.perf_counter() - began)
        if number and time.perf_counter() > until:
            break
    return {rows: median(taken) for rows, taken in times.items()}


def asked(program: Path, pair: Pair, depths: Sequence[int]) -> dict[Key, float]:
    """llama-server's rates: plain, and of rounds with guesses, none of which is right."""
    found: dict[Key, float] = {}
    for drafts in (0, GUESSES):
        with servers.llama_server(program, pair, drafts, cores()) as server:
            server.ask("a", 4)
            for depth in depths:
                told = server.ask("", ANSWER * 2, prompt=text(depth), ignore_eos=True)
                rounds = told["predicted_n"] - (told.get("draft_n_accepted") or 0) - 1
                name = f"round of {drafts}" if drafts else "rows 1"
                found["llama.cpp", name, depth] = rounds / (told["predicted_ms"] / 1000)
                if not drafts:
                    found["llama.cpp", "prompt", depth] = told["prompt_per_second"]
    return found


def predictor(pair: Pair, backend: str, machine: Machine) -> tuple[Callable[[str, int, bool], float], bool]:
    """What is predicted of a rate at a depth, with the calibration or without; and whether it is on a GPU."""
    every = catalog.load()
    chosen = choose_backend(backend, machine, every.use_case("chat"))
    if calibration.offloads(machine):  # placed as llama.cpp places it: advisor leaves GPUs to that
        chosen = msgspec.structs.replace(chosen, name="llama.cpp")
    about = subject.from_header(gguf.read_whole(pair.target), "local file", every)
    question = estimate.question(about, chosen, context=CONTEXT)
    site = msgspec.structs.replace(estimate.site(question, machine, every), known=None)
    found = estimate.attempt(about, question, None, site)
    there = known.of(machine)
    what = known.Question(
        model=about.name, quant=about.quant, file=estimate.identity(about), backend=backend,
        placement=found.placement.mode, depth_tokens=0, output="chat", drafting=False,
    )  # fmt: skip
    pace, gpu_pace = there.paces(what) if there else (None, None)

    def rate(name: str, depth: int, calibrated: bool) -> float:
        setup = Setup(
            architecture=about.architecture,
            weights=found.load.weights,
            placement=found.placement,
            machine=site.machine,
            devices=every.devices,
            depth_tokens=depth,
            context_tokens=CONTEXT,
            pace=pace if calibrated else None,
            gpu_pace=gpu_pace if calibrated else None,
        )
        gpu, cpu = speed.stages(setup)
        if name == "prompt":
            return speed.prefill(setup, gpu, cpu)
        guess = speed.draft_seconds(gpu or cpu, pair.drafter.stat().st_size)
        if name == "guess":
            return 1 / guess
        kind, _, number = name.rpartition(" ")
        if kind == "rows":
            return 1 / speed.step_seconds(setup, gpu, cpu, int(number))
        return 1 / (speed.step_seconds(setup, gpu, cpu, int(number) + 1) + int(number) * guess)

    return rate, found.placement.mode == "gpu"


def rows_of(name: str, pair: Pair, depths: Sequence[int], machine: Machine) -> Iterator[Row]:
    rate, gpu = predictor(pair, "native", machine)
    rates = {"native": rate}
    found = measured(pair, depths, gpu=gpu)
    if program := os.environ.get("LLAMA_SERVER"):
        rates["llama.cpp"], _ = predictor(pair, "llama.cpp", machine)
        found |= asked(Path(program), pair, depths)
    for (backend, what, depth), real in found.items():
        words = f"{name} {backend} {what} at {depth}"
        yield Row(words, rates[backend](what, depth, False), rates[backend](what, depth, True), real)


def here() -> Machine:
    return detect(catalog.load().devices.values())


def calibrated(machine: Machine, *, fresh: bool) -> None:
    """Have a calibration.

    Raises:
        SystemExit: it cannot be believed.
    """

    def there() -> bool:
        found = known.of(machine)
        return bool(found and (found.pace or found.gpu_pace))

    if fresh or not there():
        subprocess.run([sys.executable, "-m", "advisor", "calibrate"], check=True, stdout=sys.stderr)
    if not there():
        raise SystemExit("the calibration was made beside other work, and is not heeded: nothing to compare")


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    summary, _, more = (__doc__ or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.calibration", None, summary, more, formatter_class=form)
    parser.add_argument("--only", default="e2b", help="sizes, with commas between (%(default)s)")
    parser.add_argument("--depths", default="64,512", help="tokens in the context (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="calibrate first, whatever is kept")
    parser.add_argument("--folder", type=Path, help="of a pair, target.gguf and drafter.gguf, instead of the cache's")
    options = parser.parse_args(argv)
    machine = here()
    calibrated(machine, fresh=options.fresh)
    depths = [int(each) for each in options.depths.split(",")]
    print(f"{'rates a second':44}  formula  calibrated  measured   formula  calibrated")
    print(f"{'':44}                                 / measured", flush=True)
    verdicts = []
    for name in options.only.split(","):
        pair = random_gguf.named(options.folder) if options.folder else random_gguf.pair(name)
        for row in rows_of(name, pair, depths, machine):
            print(row.line(), flush=True)
            verdicts.append(row.nearer)
    nearer, further = verdicts.count(1), verdicts.count(-1)
    print(f"{nearer} nearer with the calibration, {further} further off, {verdicts.count(0)} as before")
    return int(further > nearer)


if __name__ == "__main__":
    sys.exit(main())
