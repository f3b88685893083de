"""`advisor recommend --json` against `llmfit recommend --json`, as whole processes on this machine.

    python -m tests.bench.recommend [--count 11] [--llmfit PATH]

The two run alternately, so that whatever else this machine does hits both; each starts once before it counts. llmfit is
found on PATH or by the variable LLMFIT (`pip install llmfit==1.1.17`). Python keeps its compiled modules, as for an
installed program, in a folder of this run. Prints the medians, their ratio and the memory, and how long 10,000
recommendations in one process take. Exit code 1 where advisor is the slower one, takes more than 60 MB, or more than a
minute for the 10,000.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

LARGEST_BYTES = 60_000_000
MANY, MANY_S = 10_000, 60.0
MACHINES = ("RTX 3060 12GB, 32GB", "M3 Max 64GB", "cpu, 32GB", "RTX 4090, 64GB", "Raspberry Pi 5 8GB")
ADVISOR = (sys.executable, "-m", "advisor", "recommend", "--json")


class Run(NamedTuple):
    """One process. `peak_bytes`: the most of main memory that it held."""

    seconds: float
    peak_bytes: int


def environment(folder: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder}


def measured(command: tuple[str, ...], folder: str) -> Run:
    """Run it to its end, its output thrown away."""
    variables = environment(folder)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    # Linux counts in KiB, macOS in bytes.
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def alternately(commands: dict[str, tuple[str, ...]], count: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(count + 1):
            for name, command in commands.items():
                run = measured(command, folder)
                if turn:
                    runs[name].append(run)
    return runs


def line(name: str, runs: list[Run]) -> str:
    times = [run.seconds * 1000 for run in runs]
    peak = max(run.peak_bytes for run in runs) / 1e6
    return f"{name:<22} {statistics.median(times):6.0f} ms  ({min(times):.0f} to {max(times):.0f})  {peak:5.1f} MB"


def many() -> float:
    """Seconds of the processor that 10,000 recommendations take in this process."""
    from advisor import recommend

    start = time.process_time()
    for turn in range(MANY):
        recommend(MACHINES[turn % len(MACHINES)], use_case=("chat", "coding")[turn % 2])
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=11)
    parser.add_argument("--llmfit", default=os.environ.get("LLMFIT") or shutil.which("llmfit"))
    options = parser.parse_args()
    commands = {"advisor": ADVISOR, "advisor --simulate": (*ADVISOR, "--simulate", "RTX 4090, 64GB")}
    if options.llmfit:
        commands["llmfit"] = (options.llmfit, "recommend", "--json")
    commands["bare interpreter"] = (sys.executable, "-c", "pass")
    runs = alternately(commands, options.count)
    for name, found in runs.items():
        print(line(name, found))
    print(f"{MANY:,} in one process  {(took := many()):6.1f} s")
    heavy = max(run.peak_bytes for run in runs["advisor"]) > LARGEST_BYTES or took > MANY_S
    if not options.llmfit:
        print("llmfit is not here: pip install llmfit==1.1.17, or set LLMFIT")
        return int(heavy)
    ours, theirs = (statistics.median(run.seconds for run in runs[name]) for name in ("advisor", "llmfit"))
    print(f"advisor takes {ours / theirs:.2f} of llmfit's time (median of {options.count}, alternately)")
    return int(ours > theirs or heavy)


if __name__ == "__main__":
    sys.exit(main())
