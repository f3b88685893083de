"""How soon `advisor` is there: its first picture and its answer, as a user waits for them, in a real terminal.

    python -m tests.bench.wizard [--count 11]

Beside it, all taking turns: a Textual app that shows one line, which no wizard in Textual can be faster than, importing
Textual, and a bare interpreter. `cold` reads the catalogue from its YAML, as the first start does; the others find it
compiled. Each starts once before it counts; Python keeps its compiled modules, as for an installed program, in a folder
of this run. Prints medians and ranges. Exit code 1 where the first picture takes more than half a second or the answer
more than one, which says something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.bench.recommend import environment
from tests.tui.terminal import BARE, Terminal

PICTURE_S, ANSWER_S = 0.5, 1.0


class Opened(NamedTuple):
    """Seconds from the start of the process. `answered` is None where nothing was asked."""

    painted: float
    answered: float | None = None


def wizard(variables: Mapping[str, str]) -> Opened:
    """The wizard, left again as soon as it has answered."""
    terminal = Terminal("-m", "advisor", **variables)
    opened = Opened(terminal.until(b"This machine"), terminal.until(b"tok/s"))
    terminal.press(b"q")
    terminal.end()
    return opened


def bare(variables: Mapping[str, str]) -> Opened:
    """The least that Textual can show."""
    terminal = Terminal("-c", BARE, **variables)
    opened = Opened(terminal.until(b"One line"))
    terminal.press(b"q")
    terminal.end()
    return opened


def process(code: str) -> Callable[[Mapping[str, str]], Opened]:
    """A Python that shows nothing: until it has ended."""

    def run(variables: Mapping[str, str]) -> Opened:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=dict(variables), check=True)
        return Opened(time.perf_counter() - start)

    return run


def cold(variables: Mapping[str, str]) -> Opened:
    """The wizard with an empty cache."""
    with tempfile.TemporaryDirectory() as empty:
        return wizard({**variables, "XDG_CACHE_HOME": empty})


WAYS: dict[str, Callable[[Mapping[str, str]], Opened]] = {
    "advisor": wizard,
    "advisor, cold catalogue": cold,
    "a bare Textual app": bare,
    "import textual.app": process("import textual.app"),
    "bare interpreter": process("pass"),
}


def measured(count: int) -> dict[str, list[Opened]]:
    """Every way `count` times, in turn."""
    found: dict[str, list[Opened]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        own = {f"GEMMA_ADVISOR_{name}": str(Path(folder) / name) for name in ("CONFIG", "STATE")}
        variables = {**environment(folder), "PYTHONDONTWRITEBYTECODE": "", **own}
        for turn in range(count + 1):
            for name, way in WAYS.items():
                opened = way(variables)
                if turn:
                    found[name].append(opened)
    return found


def told(times: list[float]) -> str:
    each = sorted(1000 * seconds for seconds in times)
    return f"{statistics.median(each):5.0f} ms ({each[0]:.0f} to {each[-1]:.0f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=11)
    found = measured(parser.parse_args().count)
    print(f"{'':<24} {'first picture, or all':<24} the answer")
    late = False
    for name, runs in found.items():
        painted = [run.painted for run in runs]
        answered = [run.answered for run in runs if run.answered is not None]
        print(f"{name:<24} {told(painted):<24} {told(answered) if answered else ''}".rstrip())
        if answered:
            late |= statistics.median(painted) > PICTURE_S or statistics.median(answered) > ANSWER_S
    ours, least = (statistics.median(run.painted for run in found[name]) for name in ("advisor", "a bare Textual app"))
    print(f"advisor's first picture takes {ours / least:.1f} times as long as the least that Textual can show")
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
