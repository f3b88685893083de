"""What is planned, refused and counted without PyTorch: that needs no runtime at all."""

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from advisor.cli import cli
from advisor.errors import NoBackend, RuntimeFailed, UsageError
from advisor.machine import Gpu
from backends import pytorch
from backends.base import Model, Options, load
from backends.conformance.bench import Bench, children
from backends.native.depth import AUTO
from backends.pytorch.drafting import Assistant
from backends.pytorch.engine import Rounds, _told

GOOD = {"torch": "2.13.0", "transformers": "5.17.0"}
CARD = Gpu(name="A", vendor="nvidia", index=1, memory_total_bytes=1 << 34, memory_free_bytes=1 << 34)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> pytorch.Transformers:
    installed(monkeypatch, GOOD)
    return load("transformers")


def installed(patch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    patch.setattr(pytorch, "_version", lambda name: versions.get(name, ""))


def checkpoint(folder: Path, told: dict) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Model:
    text = {"hidden_size": 320, "vocab_size": 4096}
    target = checkpoint(tmp_path / "target", {"model_type": "gemma4", "text_config": text})
    told = {"model_type": "gemma4_assistant", "backbone_hidden_size": 320, "text_config": {"vocab_size": 4096}}
    return Model(name="tiny", target=target, drafter=checkpoint(tmp_path / "drafter", told), draft_tokens=3)


# ---- Detection


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({}, "not installed: torch and transformers"),
        ({"torch": "2.13.0"}, "not installed: transformers"),
        ({"transformers": "5.17.0"}, "not installed: torch"),
        ({**GOOD, "transformers": "5.7.9"}, "5.8.0 is the first"),
        ({**GOOD, "transformers": "5.23.0"}, "cannot load Gemma's assistants"),
    ],
)
def test_what_cannot_run_is_not_available(monkeypatch, versions, said):
    installed(monkeypatch, versions)
    found = load("transformers").detect()
    assert not found.available
    assert not found.drafter
    assert said in found.why_not
    assert "gemma-advisor[transformers]" in found.hint


@pytest.mark.parametrize("version", ["5.8.0", "5.17.0", "5.22.2", "5.23.1"])
def test_what_can_run_is(monkeypatch, version):
    installed(monkeypatch, {**GOOD, "transformers": version})
    found = load("transformers").detect()
    assert (found.available, found.drafter, found.version) == (True, True, version)


# ---- Plans


def test_plan_is_the_whole_command(backend, model):
    plan = backend.plan(model, Options(port=8000, threads=2, gpu_layers=0))
    words = " ".join(plan.argv)
    assert plan.argv[1:4] == ("-P", "-m", "backends.pytorch.server")
    assert f"--target {model.target} --drafter {model.drafter} --draft-tokens 3" in words
    assert words.endswith("--context 4096 --name tiny --host 127.0.0.1 --port 8000 --threads 2 --device cpu")
    assert plan.environment == {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    assert plan.command == words


def test_plan_without_a_drafter_names_none(backend, model):
    for plain in (
        msgspec.structs.replace(model, drafter=None, draft_tokens=0),
        msgspec.structs.replace(model, draft_tokens=0),
    ):
        assert "--drafter" not in backend.plan(plain, Options()).argv


def test_plan_takes_lengths_that_adapt_and_the_first_card(backend, model):
    argv = backend.plan(msgspec.structs.replace(model, draft_tokens=AUTO), Options(gpus=(CARD,))).argv
    assert argv[argv.index("--draft-tokens") + 1] == "auto"
    assert argv[argv.index("--device") + 1] == "cuda:1"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kv_type": "q8_0"}, "--kv-type"),
        ({"sequences": 2}, "--parallel"),
        ({"hosts": ("a", "b")}, "--hosts"),
        ({"gpus": (CARD, CARD)}, "one GPU"),
    ],
)
def test_plan_refuses_what_it_has_not(backend, model, asked, said):
    with pytest.raises(UsageError, match=said):
        backend.plan(model, Options(**asked))


def test_embedded_pair_is_planned_as_checkpoints(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = CliRunner().invoke(cli, ["launch", "demo", "--backend", "transformers", "--dry-run", "--json"])
    argv = json.loads(said.stdout)["plan"]["argv"]
    target, drafter = (Path(argv[argv.index(name) + 1]) for name in ("--target", "--drafter"))
    assert not target.exists(), "a dry run makes nothing"
    tried = Bench(backend).model
    assert (tried.target, tried.drafter) == (target, drafter)
    assert all((folder / "model.safetensors").is_file() for folder in (target, drafter))


def test_dry_run_says_what_to_install_and_fetch(monkeypatch):
    installed(monkeypatch, {})
    said = CliRunner().invoke(cli, ["launch", "e2b", "--backend", "transformers", "--dry-run"])
    assert said.exit_code == 0, said.output
    assert "--target google/gemma-4-E2B-it --drafter google/gemma-4-E2B-it-assistant" in said.output
    assert "5.8.0 or later: pip install 'gemma-advisor[transformers]'" in said.output
    assert "google/gemma-4-E2B-it, 10.3 GB" in said.output


# ---- Refusals, before any process


def refused(backend: pytorch.Transformers, model: Model, kind: type[Exception], said: str) -> None:
    before = children()
    with pytest.raises(kind, match=said):
        backend.start(backend.plan(model, Options()))
    assert children() == before


def test_ggufs_are_refused(backend, tmp_path):
    file = tmp_path / "other.gguf"
    file.write_bytes(b"GGUF")
    refused(backend, Model(name="other", target=file), NoBackend, "no GGUF files")


def test_drafter_of_another_width_or_vocabulary_is_refused(backend, model, tmp_path):
    for name, hidden, vocab, said in (("wide", 2560, 4096, "width of 2560"), ("words", 320, 1024, "1024 tokens")):
        told = {"model_type": "gemma4_assistant", "backbone_hidden_size": hidden, "text_config": {"vocab_size": vocab}}
        other = msgspec.structs.replace(model, drafter=checkpoint(tmp_path / name, told))
        refused(backend, other, RuntimeFailed, said)


def test_ordinary_model_is_no_drafter(backend, model):
    refused(backend, msgspec.structs.replace(model, drafter=model.target), RuntimeFailed, "no Gemma 4 assistant")


def test_checkpoint_that_is_not_here_is_said_to_be(backend, tmp_path):
    refused(backend, Model(name="gone", target=tmp_path / "gone"), RuntimeFailed, "has no config.json")


def test_12b_needs_a_later_version(monkeypatch, model):
    installed(monkeypatch, {**GOOD, "transformers": "5.9.0"})
    refused(load("transformers"), msgspec.structs.replace(model, name="12b"), NoBackend, "5.10.1 is the first")


def test_start_says_what_is_missing(monkeypatch, model):
    installed(monkeypatch, {})
    refused(load("transformers"), model, NoBackend, "not installed: torch and transformers")


# ---- Counting


class Draft:
    """As much of an assistant as is counted: calls, and its configuration."""

    def __init__(self) -> None:
        self.generation_config = SimpleNamespace(num_assistant_tokens=20, num_assistant_tokens_schedule="constant")

    def register_forward_hook(self, hook) -> None:
        self.hook = hook

    def __call__(self) -> None:
        assert self.hook(self, (), SimpleNamespace()) is None


def test_rounds_say_what_was_drafted_and_accepted():
    found, model = [], Draft()
    assistant = Assistant(model)
    assistant.begin(3, sampled=False)
    rounds = Rounds(SimpleNamespace(put=found.append), assistant)
    rounds.put(np.arange(7)[None])  # the prompt
    rounds.put(np.array([5]))
    for tokens in ([1, 2, 3, 4], [1], [1, 2]):
        for _ in range(3):
            model()
        rounds.put(np.array([tokens]))
    assert [(one.tokens, one.drafted, one.accepted) for one in found] == [
        ((5,), 0, 0),
        ((1, 2, 3, 4), 3, 3),
        ((1,), 3, 0),
        ((1, 2), 3, 1),
    ]


def test_length_is_set_where_transformers_looks_and_its_own_schedule_goes_on():
    model = Draft()
    assistant, settings = Assistant(model), model.generation_config
    assistant.begin(4, sampled=False)
    assert (settings.num_assistant_tokens, settings.num_assistant_tokens_schedule) == (4, "constant")
    assistant.begin(AUTO, sampled=False)
    assert (settings.num_assistant_tokens, settings.num_assistant_tokens_schedule) == (3, "heuristic")
    settings.num_assistant_tokens = 7  # what an answer taught
    assistant.begin(AUTO, sampled=False)
    assert settings.num_assistant_tokens == 7


# ---- Failing


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore"),
            "out of memory: CUDA",
            "shorter context",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory: [enf", "shorter"),
        (MemoryError(), "out of memory: MemoryError", "shorter"),
        (RuntimeError("MPS backend out of memory"), "out of memory: MPS", "shorter"),
        (ValueError("no such layer"), "PyTorch failed: no such layer", ""),
    ],
)
def test_what_pytorch_raises_is_one_sentence(error: Exception, said: str, hint: str) -> None:
    with pytest.raises(RuntimeFailed) as caught, _told("PyTorch"):
        raise error
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "More" not in caught.value.message
