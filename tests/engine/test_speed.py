"""How fast each draft length is here: printed, not judged, since the machine is shared; only what drafting does is."""

from __future__ import annotations

import statistics
import time

import pytest

from backends.native.engine import Engine
from backends.native.tally import Tally

pytestmark = pytest.mark.engine

QUESTION = "<|turn>user\nWhich model fits 16 GB?<turn|>\n<|turn>model\n"
RUNS = 3


def once(engine: Engine, prompt: list[int], drafts: int) -> tuple[float, Tally]:
    """Tokens per second of decoding, the prompt left out."""
    tally = Tally()
    began = 0.0
    for found in engine.generate(prompt, draft_tokens=drafts, max_tokens=120):
        began = began or time.perf_counter()
        tally.add(found)
    tally.seconds = time.perf_counter() - began
    return tally.per_second, tally


def test_draft_lengths(demo: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = demo.target.model.tokenize(QUESTION, special=True, begin=True)
    speeds: dict[int, list[float]] = {drafts: [] for drafts in range(7)}
    tallies: dict[int, Tally] = {}
    for _ in range(RUNS):
        for drafts, found in speeds.items():
            speed, tallies[drafts] = once(demo, prompt, drafts)
            found.append(speed)
    plain = statistics.median(speeds[0])
    with capsys.disabled():
        print("\ndrafts  tokens/s  times plain  accepted by position")
        for drafts, found in speeds.items():
            shares = " ".join(f"{share:.0%}" for share in tallies[drafts].accepted_per_position)
            print(f"{drafts:6} {statistics.median(found):9.0f} {statistics.median(found) / plain:12.2f}  {shares}")
    assert len({tally.tokens for tally in tallies.values()}) == 1
    assert tallies[3].accepted > 0
    assert tallies[0].drafted == 0
