"""A size of the catalogue from one command to nothing left: the tag from the library, the drafter from the Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from advisor.hardware.simulate import parse
from advisor.knowledge import catalog
from advisor.running import sessions
from tests.engine import random_pair
from tests.fakes import ollama as fake
from tests.fakes.hub import Hub, serve
from tests.launch.conftest import advisor
from tests.ollama.conftest import TAG, Run
from tests.ollama.test_faults import NAME

FULL = f"{NAME}:latest"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A machine that it fits on, whichever this one is."""
    path = tmp_path / "box.json"
    path.write_bytes(msgspec.json.encode(parse("RTX 4090, 64GB", catalog.load())))
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ollama: fake.Ollama) -> Iterator[Hub]:
    """The drafter of 26B on a Hub, and its target in Ollama's library: as wide as they are, and small otherwise."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    model = catalog.load().model("26b")
    width = model.architecture.hidden
    random_pair.write_target(tmp_path / "target", random_pair.TARGET._replace(width=width))
    random_pair.write_drafter(tmp_path / "drafter", backbone=width)
    ollama.library.registry[TAG] = [("model", (tmp_path / "target").read_bytes())]
    with serve() as made:
        for file in model.drafter.files:
            made.add(file.repo, **{file.file: (tmp_path / "drafter").read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield made


def test_from_one_command_to_nothing_left(run: Run, ollama: fake.Ollama, hub: Hub, box: Path, tmp_path: Path) -> None:
    drafter = f"sha256:{hashlib.sha256((tmp_path / 'drafter').read_bytes()).hexdigest()}"
    words = ("26b", "--backend", "ollama", "--quant", "QAT-Q4_0", "--context", "4096", "--machine", str(box))

    planned = run("launch", *words, "--dry-run", "--json").document
    assert f"FROM {TAG}" in planned["plan"]["command"] and ollama.library.models == {}

    launched = advisor("launch", *words, "--detach", "--json")
    assert launched.returncode == 0, launched.stderr + launched.stdout
    made = json.loads(launched.stdout)
    assert (made["model"], made["name"], made["context_tokens"]) == (NAME, "26b", 4096)
    assert made["drafter"]["active"] is True and made["drafter"]["accepted"] > 0
    assert "drafter " in launched.stderr and "target " not in launched.stderr, "that one is the library's"
    assert len(hub.asked) == 1, "the drafter and nothing else"

    assert set(ollama.library.models) == {TAG, FULL} and ollama.asked("POST /api/pull") == 1
    derived = ollama.library.models[FULL]
    assert derived.target == ollama.library.models[TAG].target
    assert [layer.digest for layer in derived.of("draft")] == [drafter]
    parameters = ollama.library.parameters(derived)
    assert parameters["num_ctx"] == 4096 and parameters["draft_num_predict"] == made["drafter"]["draft_tokens"]
    assert parameters["top_k"] == 64 and "num_gpu" not in parameters
    (child,) = ollama.children.listed()
    assert (child.name, child.drafter, child.context) == (FULL, drafter, 4096)

    (listed,) = run("ps", "--json").document["sessions"]
    assert (listed["name"], listed["status"]) == ("26b", "running") and listed["stats"]["drafter_active"]
    answer = run("run", "26b", "What is a drafter?", "--max-tokens", "12", "--json").document
    assert answer["text"] and answer["backend"] == "ollama" and answer["drafter"]["active"]
    talk = advisor("chat", "26b", stdin="What is a drafter?\n")
    assert talk.returncode == 0 and talk.stdout.strip() and "% accepted" in talk.stderr
    assert ollama.children.started == 1, "one child answered all of it"

    again = run("launch", *words, "--detach", "--json").document
    assert again["model"] == NAME and ollama.asked("POST /api/create") == 1 and len(hub.asked) == 1
    assert run("stop", again["name"], "--json").document["stopped"] == [again["name"]]

    assert run("stop", "26b", "--remove", "--json").document["removed"] == [NAME]
    assert set(ollama.library.models) == {TAG}, "what was pulled stays"
    assert drafter not in ollama.library.blobs and ollama.children.listed() == [] and sessions.everything() == []
