"""What decoding 1 to 16 tokens together costs here, timed: `python -m backends.native.rows MODEL [SECONDS]`.

A process of its own, because llama.cpp may abort. Prints one JSON object: the seconds of each number of rows when
nothing was in the way (the first tenth of its times) and usually (the median), how often each was timed, and what the
model's weights weigh.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median

from backends.native.engine import cores
from backends.native.target import Target

ROWS = range(1, 17)
DEPTH = 64
MOST_PASSES = 40
WARM = 1


def measure(model: Path, seconds: float) -> dict[int, list[float]]:
    """Seconds of each number of rows, all of them in turn, so that a busy moment hits none alone."""
    target = Target(model, context_tokens=512, threads=cores(), drafter=False)
    found: dict[int, list[float]] = {rows: [] for rows in ROWS}
    try:
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
    return found


def main() -> None:
    model = Path(sys.argv[1])
    found = measure(model, float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)  # noqa: PLR2004 - the second argument
    rows = {str(count): sorted(times)[len(times) // 10] for count, times in found.items()}
    usual = {str(count): median(times) for count, times in found.items()}
    print(json.dumps({"rows": rows, "usual": usual, "times": len(found[1]), "bytes": model.stat().st_size}))


if __name__ == "__main__":
    main()
