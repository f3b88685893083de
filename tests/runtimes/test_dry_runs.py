"""`advisor launch MODEL --backend NAME --dry-run` for every runtime on every machine: a whole command, or why not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import msgspec
import psutil
import pytest
import yaml
from click.testing import CliRunner

from advisor.cli import cli
from advisor.errors import UsageError
from advisor.hardware import detection, simulate
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.memory.room import share_of
from advisor.running import launching, starting
from advisor.running.order import Order, Setup
from backends.base import LaunchPlan, Model, load
from tests.runtimes.conftest import Install

CATALOG = catalog.load()
GOLDEN = Path(__file__).parent.parent / "picks" / "golden.yaml"
MACHINES = {row[0]: simulate.parse(row[0], CATALOG) for row in yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))}
"""Those that have a pick: GPUs of every maker, one and several, Macs, phones, boards, processors alone."""
ANSWERED = {"litert": {"e2b", "e4b"}}
"""What a runtime has of the five sizes, where it has not all."""
WORDS = {
    "vllm": ("serve", "--max-model-len", "--speculative-config"),
    "sglang": ("serve", "--context-length", "--speculative-draft-model-path", "--enable-metrics"),
    "mlx": ("--model", "--draft-model", "--draft-block-size"),
    "litert": ("serve", "--config"),
    "transformers": ("--target", "--drafter", "--draft-tokens", "--context"),
}


def planned(machine: Machine, model: str, name: str) -> tuple[Setup, LaunchPlan]:
    setup = launching.configure(Order(machine=machine, model=model, backend=name), strict=False)
    return setup, starting.planned(load(name), setup, port=8000)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("model", CATALOG.models)
def test_a_whole_command_on_every_machine(name: str, model: str) -> None:
    runtime = CATALOG.runtimes[name]
    for spec, machine in MACHINES.items():
        if model not in ANSWERED.get(name, CATALOG.models):
            with pytest.raises(UsageError, match=f"no checkpoint of {model}"):
                planned(machine, model, name)
            continue
        try:
            setup, plan = planned(machine, model, name)
        except UsageError as error:
            assert name == "transformers" and "one GPU" in error.message, (spec, error.message)
            continue
        assert not set(WORDS[name]) - set(plan.argv), spec
        assert "8000" in plan.argv and "127.0.0.1" in plan.argv
        assert all(word in shlex.split(plan.command) for word in plan.argv), "what is typed is what is started"
        notes = "\n".join(setup.notes)
        assert f"{runtime.least(model)} or later: {runtime.install_line(machine.os)}" in notes
        assert (f"does not run on this system ({machine.os})" in notes) is (machine.os not in runtime.systems)
        assert [one.repo for one in setup.repositories], "and what is to be fetched"
        cards = plan.options.gpus
        if name == "vllm":
            assert ("--gpu-memory-utilization" in plan.argv) is bool(cards)
            assert ("--tensor-parallel-size" in plan.argv) is (len(cards) > 1)
        if name == "sglang":
            assert ("--tp" in plan.argv) is (len(cards) > 1)


@pytest.mark.parametrize("name", WORDS)
def test_it_prints_files_floor_install_line_and_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "detect", lambda *_, **__: MACHINES["RTX 4090, 64GB"])
    runtime = CATALOG.runtimes[name]
    done = CliRunner().invoke(cli, ["launch", "e2b", "--backend", name, "--dry-run"])
    assert done.exit_code == 0, done.output
    found = next(one for one in CATALOG.models["e2b"].checkpoints if name in one.runtimes)
    assert found.repo in done.stderr
    assert f"{runtime.floor} or later: {runtime.install_line('linux')}" in done.stderr
    assert runtime.program in done.stdout
    told = json.loads(CliRunner().invoke(cli, ["launch", "e2b", "--backend", name, "--dry-run", "--json"]).stdout)
    assert told["plan"]["argv"]
    assert told["plan"]["command"]


# ---- Memory that others use


def used(spec: str, *shares: float) -> Machine:
    """A machine with so much of its cards' memory in use."""
    machine = simulate.parse(spec, CATALOG)
    cards = [
        msgspec.structs.replace(card, memory_free_bytes=int((1 - share) * card.memory_total_bytes))
        for card, share in zip(machine.gpus, shares, strict=True)
    ]
    return msgspec.structs.replace(machine, gpus=tuple(cards))


def share(machine: Machine, model: str) -> float:
    argv = planned(machine, model, "vllm")[1].argv
    return float(argv[argv.index("--gpu-memory-utilization") + 1])


def test_vllm_takes_of_a_card_what_others_leave() -> None:
    """It ends where the share that it was told is not free, and its own default is .92."""
    assert share(used("RTX 4090, 64GB", 0), "e2b") == 0.92
    assert share(used("RTX 4090, 64GB", 0.5), "e2b") == 0.47
    assert share(used("2x RTX 3090, 128GB", 0, 0.2), "31b") == 0.77, "all cards are told the same"


def test_what_others_use_decides_what_fits() -> None:
    free, busy = used("RTX 4090, 64GB", 0), used("RTX 4090, 64GB", 0.4)
    chosen = [planned(machine, "e4b", "vllm")[1].argv[2] for machine in (free, busy)]
    assert chosen == ["google/gemma-4-E4B-it", "google/gemma-4-E4B-it-qat-w4a16-ct"]
    setup, _ = planned(used("RTX 4090, 64GB", 0.9), "12b", "vllm")
    assert any("more than there is" in note for note in setup.notes)
    card = used("RTX 4090, 64GB", 1).gpus[0]
    unknown = msgspec.structs.replace(card, memory_total_bytes=0, memory_free_bytes=0)
    for one in (card, unknown):
        assert share_of(one, CATALOG.runtimes["vllm"]) > 0, "a share that vLLM takes, whatever it then says"


# ---- Several hosts


def test_each_host_gets_its_exact_command_and_the_local_one_is_started(install: Install, pair: Model) -> None:
    install("vllm")
    words = ["launch", str(pair.target), "--drafter", str(pair.drafter), "--backend", "vllm", "--hosts", "here,there"]
    dry = CliRunner().invoke(cli, [*words, "--dry-run", "--json"], catch_exceptions=False)
    other = json.loads(dry.stdout)["plan"]["hosts"]
    assert list(other) == ["there"]
    done = CliRunner().invoke(cli, [*words, "--detach", "--json"], catch_exceptions=False)
    lines = done.stderr.splitlines()
    assert "# on there:" in lines, "before anything waits for it"
    assert lines[lines.index("# on there:") + 1] == other["there"]
    told = json.loads(done.stdout)
    assert told["drafter"]["active"] is True
    argv = shlex.split(other["there"])
    assert argv[-7:] == ["--nnodes", "2", "--node-rank", "1", "--master-addr", "here", "--headless"]
    assert "--host" not in argv, "it listens nowhere"
    mine = " ".join(psutil.Process(told["pid"]).cmdline())
    assert "--nnodes 2 --node-rank 0 --master-addr here" in mine
