"""Ollama on another machine, and what `recommend` and `estimate` make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from advisor.choice.ranking import Request, rank
from advisor.choice.request import choose_backend
from advisor.commands import elsewhere
from advisor.errors import NoBackend, UsageError
from advisor.hardware.simulate import parse
from advisor.knowledge import catalog
from advisor.machine import Availability, Machine
from backends.ollama import Ollama, address
from tests.fakes import ollama as fake
from tests.ollama.conftest import TAG, Run, pair

HOST = "box.lan"


@pytest.fixture
def remote(ollama: fake.Ollama, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake.Ollama]:
    """The server as if it were another machine's."""
    monkeypatch.setattr(address.Address, "local", property(lambda self: False))
    yield ollama


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """What `detect --json` wrote there."""
    import msgspec

    path = tmp_path / "box.json"
    path.write_bytes(msgspec.json.encode(simulated("RTX 4090, 64GB")))
    return path


def simulated(spec: str) -> Machine:
    return parse(spec, catalog.load())


def test_detection_says_that_it_is_elsewhere(remote: fake.Ollama) -> None:
    found = Ollama().detect()
    assert found.available and found.host == "127.0.0.1"


def test_without_its_hardware_nothing_is_chosen(run: Run, remote: fake.Ollama, tmp_path: Path) -> None:
    done = run("launch", "26b", "--backend", "ollama", "--json")
    assert done.exit_code == 2, done.output
    error = json.loads(done.stdout)["error"]
    assert "whose hardware is not known here" in error["message"] and "--machine" in error["hint"]


def test_its_hardware_is_asked_for_at_a_terminal(remote: fake.Ollama, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(elsewhere.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda question, **_: asked.append(question) or "RTX 4090, 64GB")
    found = elsewhere.machine_of("ollama", None)
    assert found is not None and found.gpus[0].name.endswith("4090") and "127.0.0.1" in asked[0]
    (backend,) = found.backends
    assert backend.version == remote.version and backend.host is None and not found.simulated


def test_its_hardware_comes_from_a_file(run: Run, remote: fake.Ollama, machine: Path) -> None:
    done = run("launch", "26b", "--ollama-host", remote.url, "--machine", str(machine), "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["backend"] == "ollama" and plan["base_url"] == f"{remote.url}/v1"
    assert TAG in plan["plan"]["command"] and "DRAFT " in plan["plan"]["command"]
    assert [each["role"] for each in plan["plan"]["files"]] == ["drafter"], "the target comes from the library"
    assert "PARAMETER top_k 64" in plan["plan"]["command"]


def test_a_pair_runs_there(run: Run, remote: fake.Ollama, machine: Path, tmp_path: Path) -> None:
    model = pair(tmp_path)
    done = run("launch", str(model.target), "--drafter", str(model.drafter), "--ollama-host", remote.url,
               "--machine", str(machine), "--detach", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["drafter"]["active"] is True and "log is on another machine" in made["drafter"]["reason"]
    assert made["measured"]["process_bytes"] is None and made["log"] is None
    removed = json.loads(run("stop", "--remove", "--json").stdout)["removed"]
    assert set(removed) == {"advisor-target-mtp", "advisor-target-bare"}


def test_one_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, "127.0.0.1:9")
    monkeypatch.setattr(address.Address, "local", property(lambda self: False))
    found = Ollama().detect()
    assert not found.available and found.host == "127.0.0.1" and "no server answers" in str(found.why_not)
    done = run("launch", "26b", "--backend", "ollama", "--json")
    assert done.exit_code == 4 and "OLLAMA_HOST=0.0.0.0" in json.loads(done.stdout)["error"]["hint"]


def test_another_backend_has_no_such_host(run: Run) -> None:
    done = run("launch", "26b", "--backend", "llama.cpp", "--ollama-host", HOST)
    assert done.exit_code == 2 and "does not go with" in done.stderr


@pytest.mark.parametrize("yes", [True, False])
def test_starting_the_server_is_offered(yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[bool] = []
    found = Availability(name="ollama", available=False, why_not="it does not run", path="/usr/bin/ollama")
    monkeypatch.setattr(Ollama, "detect", lambda self: found)
    monkeypatch.setattr(Ollama, "serve", lambda self: served.append(True))
    monkeypatch.setattr(elsewhere.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda question, **_: "Start it?" in question and yes)
    elsewhere.offer_to_serve("ollama")
    assert served == ([True] if yes else [])
    monkeypatch.setattr(elsewhere.sys.stdin, "isatty", lambda: False)
    elsewhere.offer_to_serve("ollama")
    elsewhere.offer_to_serve("native")
    elsewhere.offer_to_serve(None)
    assert len(served) == yes


# ---- What recommend makes of it


def with_ollama(**changes: object) -> Machine:
    import msgspec

    found = Availability(name="ollama", available=True, version="0.35.0", drafter=True)
    found = msgspec.structs.replace(found, **changes)
    return msgspec.structs.replace(simulated("RTX 4090, 64GB"), simulated=False, backends=(found,))


def test_recommend_keeps_to_the_library() -> None:
    known = catalog.load()
    found = rank(Request(backend="ollama"), with_ollama(), known)
    assert all("ollama" in one.candidate.quant.tags for one in found.recommendations)
    left_out = [one for one in found.rejected if one.code == "backend"]
    assert left_out and all("library does not have it" in one.reason for one in left_out)
    others = rank(Request(backend="llama.cpp"), simulated("RTX 4090, 64GB"), known)
    assert any("ollama" not in one.candidate.quant.tags for one in others.recommendations)


def test_one_elsewhere_is_never_chosen_by_itself() -> None:
    use_case = catalog.load().use_case("chat")
    machine = with_ollama(host=HOST)
    assert choose_backend(None, machine, use_case).name == "llama.cpp"
    with pytest.raises(NoBackend, match="whose hardware is not known here") as caught:
        choose_backend("ollama", machine, use_case)
    assert "--machine" in caught.value.hint


def test_an_old_one_drafts_not() -> None:
    found = rank(Request(backend="ollama"), with_ollama(drafter=False), catalog.load())
    assert not any(one.candidate.drafter.enabled for one in found.recommendations)


def test_estimate_and_recommend_take_it(run: Run, ollama: fake.Ollama) -> None:
    done = run(
        "estimate", "26b", "--quant", "QAT-Q4_0", "--backend", "ollama", "--simulate", "RTX 4090, 64GB", "--json"
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["memory"]["total_bytes"] > 14 * 10**9 and document["drafter"]["enabled"]
    done = run("recommend", "--backend", "ollama", "--simulate", "RTX 3060 12GB, 32GB", "--json")
    pick = json.loads(done.stdout)["recommendations"][0]
    assert pick["backend"] == "ollama" and pick["quant"] in ("QAT-Q4_0", "Q4_K_M", "Q8_0", "BF16")


def test_a_port_of_its_own(run: Run, ollama: fake.Ollama) -> None:
    done = run("launch", "demo", "--backend", "ollama", "--port", "9000")
    assert done.exit_code == 2 and "leave out --port" in done.stderr


def test_every_size_has_a_tag() -> None:
    tags = {model.id: [quant.tags["ollama"].name for quant in model.quants if "ollama" in quant.tags]
            for model in catalog.load().models.values()}  # fmt: skip
    assert set(tags) == {"e2b", "e4b", "12b", "26b", "31b"}
    assert all(f"gemma4:{size}" in each for size, names in tags.items() for each in names)
    assert all(any(each.endswith("-it-qat") for each in names) for names in tags.values())


def test_a_wrong_address_is_wrong_usage() -> None:
    with pytest.raises(UsageError):
        address.parse("ftp://box")
