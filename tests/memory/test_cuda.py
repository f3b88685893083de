"""Predicted memory against what llama-server took on a real card (`cuda.yaml`, where it says how)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from advisor.cli import cli
from advisor.memory.footprint import MIB
from tests.bench.memory import Pair

SEEN = yaml.safe_load(Path(__file__).with_name("cuda.yaml").read_text())
CUDA = 601
"""MiB that CUDA takes on that card for itself: what an empty program holds, part of no model."""


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: f"{seen['size']}-{seen['context']}-{seen['drafter']}")
def test_an_h100(seen: dict[str, Any], pairs: dict[str, Pair]) -> None:
    pair = pairs[seen["size"]]
    how = ["--drafter", str(pair.drafter)] if seen["drafter"] else ["--no-drafter"]
    words = ["estimate", str(pair.target), "--context", str(seen["context"]), "--simulate", "H100 80GB, 128GB", *how]
    answer = CliRunner().invoke(cli, [*words, "--backend", "llama.cpp", "--json"])
    found = json.loads(answer.output)
    memory = found["memory"]
    assert memory["device_bytes"] / MIB == pytest.approx(seen["device"], rel=0.01, abs=32)
    host = memory["host_bytes"] - memory["output_bytes"]
    assert host / MIB == pytest.approx(seen["host"], rel=0.01, abs=32)
    # 26B takes 115 MiB more than its log tells, for the rows that go to each expert.
    assert memory["device_bytes"] / MIB == pytest.approx(seen["card"] - CUDA, rel=0.012, abs=32)
    if "plain" in seen:
        # The weights are zeros or, of 26B, random: experts are not chosen as in earnest.
        assert found["speed"]["plain_tokens_per_s"] == pytest.approx(
            seen["plain"], rel=0.25 if seen["size"] == "26b" else 0.1
        )
