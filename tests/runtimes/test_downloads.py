"""Repositories fetched whole: what a server needs of them, once, resumed where it broke off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from advisor.cli import cli
from advisor.errors import DownloadFailed
from advisor.files import download, shelves
from advisor.hardware import detection, simulate
from advisor.knowledge import catalog
from backends import checkpoint
from tests.fakes.hub import Fault, Hub, serve
from tests.runtimes.conftest import Install

TARGET, DRAFTER = "google/gemma-4-12B-it", "google/gemma-4-12B-it-assistant"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TEXT = {"hidden_size": 64, "vocab_size": 512}


def encoded(told: object) -> bytes:
    return json.dumps(told).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install) -> Iterator[Hub]:
    """A Hub with the pair, a machine that has room for it, and vLLM."""
    install("vllm")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(download, "BACKOFF_S", 0.01)
    machine = simulate.parse("RTX PRO 6000, 256GB", catalog.load())
    monkeypatch.setattr(detection, "detect", lambda *_, **__: machine)
    with serve() as made:
        made.add(TARGET, **{
            "config.json": encoded({"model_type": "gemma4_unified", "text_config": TEXT}),
            "model.safetensors.index.json": encoded({"weight_map": dict(zip("ab", PARTS, strict=True))}),
            **{name: os.urandom(3 << 20) for name in PARTS},
            "tokenizer.json": b"{}",
            "README.md": b"# Gemma",
            "original/model.pt": b"not needed",
        })  # fmt: skip
        made.add(DRAFTER, **{
            "config.json": encoded(
                {"model_type": "gemma4_unified_assistant", "backbone_hidden_size": 64, "text_config": TEXT}
            ),
            "model.safetensors": os.urandom(50_000),
        })  # fmt: skip
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def launch(*words: str) -> Result:
    return CliRunner().invoke(cli, ["launch", "12b", "--backend", "vllm", "--quant", "BF16", "--detach", *words])


def test_what_is_needed_is_fetched_and_served_from_here(hub: Hub) -> None:
    done = launch("--json")
    assert done.exception is None, done.exception
    told = json.loads(done.stdout)
    assert told["drafter"]["active"] is True
    folder = checkpoint.local(Path(TARGET))
    assert folder is not None
    assert folder.is_relative_to(shelves.hub_cache())
    assert {each.name for each in folder.iterdir()} == {
        "config.json", "model.safetensors.index.json", "tokenizer.json", *PARTS
    }  # fmt: skip
    assert (folder / PARTS[1]).read_bytes() == hub.repos[TARGET][PARTS[1]]
    argv = " ".join(psutil.Process(told["pid"]).cmdline())
    assert str(folder) in argv, "vLLM is given the folder, so that it fetches nothing"


def test_nothing_is_asked_of_the_network_the_second_time(hub: Hub) -> None:
    assert launch().exception is None
    hub.requests.clear()
    assert launch().exception is None
    assert hub.requests == []


def test_one_that_broke_off_goes_on_where_it_was(hub: Hub) -> None:
    hub.faults += [Fault(cut=2 << 20)] * 4
    assert launch().exception is None
    assert any(begin > 0 for begin, _ in hub.asked)
    folder = checkpoint.local(Path(TARGET))
    assert folder is not None
    for name in PARTS:
        assert (folder / name).read_bytes() == hub.repos[TARGET][name]


def test_half_a_repository_is_not_taken_for_a_whole_one(hub: Hub) -> None:
    assert launch().exception is None
    folder = checkpoint.local(Path(TARGET))
    assert folder is not None
    (folder / PARTS[0]).unlink()
    hub.requests.clear()
    assert launch().exception is None
    assert (folder / PARTS[0]).read_bytes() == hub.repos[TARGET][PARTS[0]]
    assert hub.requests


def test_a_repository_that_is_not_there(hub: Hub) -> None:
    del hub.repos[DRAFTER]
    assert isinstance(launch().exception, DownloadFailed)
