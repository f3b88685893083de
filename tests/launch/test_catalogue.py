"""Launching sizes of the catalogue: what is decided, which files, and what is said where they cannot be had."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from advisor import cli
from advisor.choice.ranking import Request, rank
from advisor.errors import DownloadFailed, NothingFits, UsageError
from advisor.hardware import detection, simulate
from advisor.knowledge import catalog
from advisor.machine import Gpu
from advisor.running import arrangement, launching
from advisor.running.order import Order
from tests.bench.memory import write_pair

NOWHERE = "http://127.0.0.1:9"
Machine = Callable[[str], None]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files of the user's, no Hub, no llama-server."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "LLAMA_SERVER", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Pretend to be another machine."""

    def pretend(spec: str) -> None:
        machine = simulate.parse(spec, catalog.load())
        monkeypatch.setattr(detection, "detect", lambda *_args, **_options: machine)

    return pretend


def plan(*words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.run(["launch", *words, "--dry-run", "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_what_recommend_prints_is_what_launch_does(on: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    on("RTX 4090, 64GB")
    assert cli.run(["recommend", "--json", "--simulate", "RTX 4090, 64GB"]) == 0
    for pick in json.loads(capsys.readouterr().out)["recommendations"]:
        made = plan(*shlex.split(pick["command"])[2:], capsys=capsys)
        files = {file["role"]: file for file in made["plan"]["files"]}
        assert made["model"] == pick["model"] and files["target"]["file"] == pick["file"]
        assert made["drafter"]["enabled"] is pick["drafter"]["enabled"]
        argv = made["plan"]["argv"]
        assert argv[argv.index("-ngl") + 1] == str(pick["placement"]["gpu_layers"])
        if pick["drafter"]["enabled"]:
            assert files["drafter"]["file"] == pick["drafter"]["file"]


def test_several_users_share_the_context_that_was_reckoned(on: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "RTX 4090, 64GB"
    on(spec)
    assert cli.run(["recommend", "--json", "--use-case", "production", "--simulate", spec]) == 0
    pick = json.loads(capsys.readouterr().out)["recommendations"][0]
    made = plan(*shlex.split(pick["command"])[2:], capsys=capsys)
    argv = made["plan"]["argv"]
    assert argv[argv.index("-c") + 1 : argv.index("-c") + 5] == ["16384", "--parallel", "4", "--kv-unified"]
    assert made["expected"]["total_bytes"] == pick["memory"]["total_bytes"]


def test_without_a_model_it_is_the_recommendation(on: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    on("RTX 3060 12GB, 32GB")
    assert cli.run(["recommend", "--json", "--simulate", "RTX 3060 12GB, 32GB"]) == 0
    pick = json.loads(capsys.readouterr().out)["recommendations"][0]
    made = plan(capsys=capsys)
    assert (made["model"], made["plan"]["files"][0]["file"]) == (pick["model"], pick["file"])


def test_experts_go_to_the_processor_where_they_must(on: Machine) -> None:
    on("RTX 3060 12GB, 64GB")
    setup = launching.configure(Order(model="26b", quant="Q8_0"), strict=False)
    assert setup.options.gpu_layers and setup.options.cpu_expert_layers > 0


@pytest.mark.parametrize(
    ("model", "layers", "free", "card"),
    [
        ("31b", 61, (10, 10), 1),  # its last layers own the cache that the drafter reads
        ("31b", 61, (10, 10, 1), 2),
        ("31b", 20, (10, 10), 1),
        ("e2b", 36, (10, 10), 0),  # layers 15 to 35 share the cache of the 13th and the 14th
        ("e2b", 36, (10, 20), 1),
        ("e2b", 36, (20,), None),
        ("e2b", 10, (10, 10), None),  # they are in main memory
    ],
)
def test_the_drafter_is_where_the_cache_is_that_it_reads(
    model: str, layers: int, free: tuple[int, ...], card: int | None
) -> None:
    cards = [
        Gpu(name="x", vendor="nvidia", index=index, memory_total_bytes=size << 30, memory_free_bytes=size << 30)
        for index, size in enumerate(free)
    ]
    found = arrangement.drafter_card(catalog.load().model(model).architecture, layers, cards)
    assert (found.index if found else None) == card


def test_files_that_are_here_are_used_without_the_network(
    on: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on("cpu, 16GB")
    model = catalog.load().model("e2b")
    pair = write_pair(tmp_path, model, "Q4_0", pure=True)
    quant = next(quant for quant in model.quants if quant.qat)
    drafter = next(file for file in model.drafter.files if file.qat)
    folder = tmp_path / "hf" / "hub" / f"models--{quant.repo.replace('/', '--')}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / quant.file).symlink_to(pair.target)
    (folder / drafter.file).symlink_to(pair.drafter)
    made = plan("e2b", "--quant", quant.name, "--context", "4096", capsys=capsys)
    assert [(file["here"], file["source"]) for file in made["plan"]["files"]] == [(True, "Hugging Face cache")] * 2
    assert str(folder / quant.file) in made["plan"]["argv"] and str(folder / drafter.file) in made["plan"]["argv"]
    assert made["context_tokens"] == 4096


def test_a_projector_is_one_more_file(on: Machine) -> None:
    on("RTX 4090, 64GB")
    setup = launching.configure(Order(model="12b", projector=True), strict=False)
    assert [file.role for file in setup.files] == ["target", "drafter", "projector"]
    assert setup.model.projector == setup.files[2].path


def test_without_a_drafter_none_is_fetched(on: Machine) -> None:
    on("RTX 4090, 64GB")
    for order in (Order(model="12b", use_drafter=False), Order(model="12b", draft_tokens=0)):
        setup = launching.configure(order, strict=False)
        assert [file.role for file in setup.files] == ["target"] and setup.model.draft_tokens == 0
        assert "switched off" in setup.drafter_reason
    assert launching.configure(Order(model="12b", draft_tokens=5), strict=False).model.draft_tokens == 5


def test_a_model_that_is_named_is_not_refused_for_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = simulate.parse("cpu, 64GB", catalog.load())
    memory = msgspec.structs.replace(machine.memory, bandwidth_bytes_per_s=10e9)
    slow = msgspec.structs.replace(machine, memory=memory)
    monkeypatch.setattr(detection, "detect", lambda *_args, **_options: slow)
    with pytest.raises(NothingFits, match="reaches 8 tok/s"):
        rank(Request(model="31b"), slow, catalog.load())
    assert launching.configure(Order(model="31b"), strict=False).model.name == "31b"


def test_what_cannot_be(on: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    on("cpu, 16GB")
    with pytest.raises(NothingFits, match="31B") as error:
        launching.configure(Order(model="31b", quant="Q8_0"))
    assert "--force" in error.value.hint
    forced = launching.configure(Order(model="31b", quant="Q8_0", force=True), strict=False)
    assert forced.options.gpu_layers is None
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        launching.configure(Order(model="e2b"))
    with pytest.raises(UsageError, match="unknown model '27b'"):
        launching.configure(Order(model="27b"))
    with pytest.raises(UsageError, match="unknown quant of e2b"):
        launching.configure(Order(model="e2b", quant="Q9"))
    assert cli.run(["launch", "e2b", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "download"
