"""The benchmark runs and says what it measured; its pair of a real model's shapes is one that the engine can decode."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from advisor.knowledge.catalog import load
from backends.native.engine import Engine
from tests.bench import engine as bench
from tests.bench.servers import interval
from tests.engine.lossless import tokens
from tests.tools import random_gguf


def test_ratios() -> None:
    assert bench.Bar("x", [1.1, 1.2, 1.3], 1.15).line().startswith("ok ")
    assert bench.Bar("x", [1.1], 1.15).line().startswith("MISS")
    assert bench.Bar("x", [1.1], 1.15).json()["pairs"] == 1
    one, two = bench.Sum(), bench.Sum()
    one.speeds, two.speeds = [10.0, 20.0, 30.0], [5.0, 5.0, 60.0]
    assert one.gain(two) == 2.0
    found = bench.against_best("x", {0: two, 3: one, bench.AUTO: two})
    assert (found.what, found.ratio) == ("adaptive / best fixed length (3), x", 0.5)


def test_noise_is_told_from_a_miss() -> None:
    """Of 100 ratios the median's interval has the 40th and the 61st as its ends."""
    ratios = [0.9 + number / 500 for number in range(100)]
    assert interval(ratios) == pytest.approx((0.98, 1.018))
    assert interval([1.0]) == (1.0, 1.0)
    assert "within the noise" in bench.Bar("x", ratios, 1.01).line()
    assert "within the noise" not in bench.Bar("x", ratios, 1.05).line()


def test_unknown_sections(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--only", "plain,speed"])
    assert "no section speed; there are plain, fixed" in capsys.readouterr().err


@pytest.mark.engine
def test_what_the_costs_allow(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "limit", "--each", "1", "--rounds", "0", "--tokens", "4", "--json"]) in (0, 1)
    shown = capsys.readouterr()
    bars = json.loads(shown.out)["bars"]
    assert [bar["what"].partition(", ")[2] for bar in bars] == [
        "stated",
        "free",
        "code",
        "prose",
        "repetition",
        "all kinds",
    ]
    assert "in plain steps: rows 1: 1.00, 2: " in shown.err


@pytest.mark.engine
def test_random_weights_under_real_names(tmp_path: Path) -> None:
    e2b = load().models["e2b"]
    small = msgspec.structs.replace(
        e2b.architecture,
        layers=10,
        global_layers=2,
        kv_shared_layers=5,
        hidden=256,
        ffn=512,
        ffn_shared=1024,
        per_layer_embedding=64,
        vocab=512,
    )
    drafter = msgspec.structs.replace(e2b.drafter, hidden=64, ffn=128)
    pair = random_gguf.write(tmp_path, msgspec.structs.replace(e2b, architecture=small, drafter=drafter))
    engine = Engine(pair.target, pair.drafter, context_tokens=512, threads=1)
    try:
        plain = tokens(engine, [2, 300, 301, 302], 0, 20)
        assert len(plain) == 20 or plain[-1] in engine.end
        assert tokens(engine, [2, 300, 301, 302], 3, 20) == plain
    finally:
        engine.close()
