"""PyTorch and Transformers for real, with the demo pair as checkpoints: `make test-runtimes`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from advisor.cli import cli
from advisor.errors import RuntimeFailed
from advisor.running import demo, sessions
from advisor.running.client import Done, Text, joined
from backends.base import Backend, Endpoint, Model, Options, load
from backends.native.sampling import Sampling
from profiles.demo import checkpoint
from tests.engine.chi_square import alike
from tests.runtimes.spoiled import blank, scrambled

pytest_plugins = ["backends.conformance.plugin"]
pytestmark = [
    pytest.mark.transformers,
    pytest.mark.skipif(not os.environ.get("ADVISOR_RUNTIMES"), reason="on demand: make test-runtimes"),
    pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="PyTorch is not installed"),
]

TEXTS = [
    "Hello  world",
    "a\n\nb\n\n\n\n\n\nc",
    "def f(x):\n    return x\t# \u00fcml\u00e4ut \u65e5\u672c \u20ac\r\n",
    "<|turn>user\nhi<turn|>\n",
    "  lead",
    "a<bos>b <0x41>",
    "",
]
QUESTIONS = ["Which model fits 16 GB?", "What is a drafter?", "How much memory does the 31B need?"]
PASSAGE = "os.path.join(path, *paths)\nJoin one or more path segments intelligently."
SAMPLES = 250


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> checkpoint.Pair:
    return checkpoint.make(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def model(pair: checkpoint.Pair) -> Model:
    return Model(name="demo", target=pair.target, drafter=pair.drafter, draft_tokens=3, context_tokens=2048)


@pytest.fixture(scope="module")
def backend() -> Backend:
    return load("transformers")


@pytest.fixture(scope="module")
def engine(pair: checkpoint.Pair) -> Iterator:
    from backends.pytorch.engine import Engine

    made = Engine(pair.target, pair.drafter, threads=1, context_tokens=2048)
    yield made
    made.close()


@pytest.fixture(scope="module")
def llama() -> Iterator:
    """The same pair in llama.cpp."""
    pytest.importorskip("llama_cpp")
    from backends.native.engine import Engine

    made = Engine(checkpoint.TARGET, checkpoint.DRAFTER, threads=1, context_tokens=2048)
    yield made
    made.close()


@contextlib.contextmanager
def served(backend: Backend, model: Model, **options) -> Iterator[Endpoint]:
    endpoint = backend.start(backend.plan(model, Options(threads=1, **options)))
    try:
        yield endpoint
    finally:
        backend.stop(endpoint)


def test_conforms(rule: Callable[[], None]) -> None:
    rule()


# ---- The same model as in llama.cpp


@pytest.mark.parametrize("text", TEXTS)
def test_token_ids_are_llama_cpps(engine, llama, text):
    for special in (True, False):
        ours, theirs = (each.target.model.tokenize(text, special=special, begin=special) for each in (engine, llama))
        assert ours == theirs
    assert b"".join(map(engine.target.model.piece, ours)) == b"".join(map(llama.target.model.piece, theirs))


def prompts(engine) -> list[list[int]]:
    from backends.native.prompt import Prompt

    made = Prompt(engine.target.model)
    return [made.chat([{"role": "user", "content": each}]) for each in QUESTIONS] + [made.plain(PASSAGE)]


def test_logits_are_llama_cpps(engine, llama):
    import torch

    for prompt in prompts(llama):
        with torch.inference_mode():
            ours = engine._model(torch.tensor([prompt])).logits[0, -1].numpy()
        theirs = llama.target.prefill(prompt)[0]
        assert np.corrcoef(ours, theirs)[0, 1] > 0.999
        assert ours.argmax() == theirs.argmax()


def test_answers_and_acceptance_are_llama_cpps(engine, llama):
    *asked, passage = prompts(llama)
    for prompt in asked:
        ours, theirs = (list(each.generate(prompt, draft_tokens=3, max_tokens=100)) for each in (engine, llama))
        assert [token for one in ours for token in one.tokens] == [token for one in theirs for token in one.tokens]
        shares = [sum(one.accepted for one in each) / sum(one.drafted for one in each) for each in (ours, theirs)]
        assert abs(shares[0] - shares[1]) < 0.05
    rounds = list(engine.generate(passage, draft_tokens=3, max_tokens=100))
    # Here the drafter is often wrong, and is counted as such.
    assert 0.05 < sum(one.accepted for one in rounds) / sum(one.drafted for one in rounds) < 0.6


# ---- Drafts change no answer


@pytest.mark.parametrize("drafts", [1, 2, 3, 5, 8, -1])
def test_greedy_answers_are_the_same_with_every_length(engine, drafts):
    for prompt in prompts(engine):
        plain, drafted = (list(engine.generate(prompt, draft_tokens=count, max_tokens=60)) for count in (0, drafts))
        assert sum(one.drafted for one in plain) == 0
        assert sum(one.drafted for one in drafted) > 0
        assert [t for one in plain for t in one.tokens] == [t for one in drafted for t in one.tokens]


def test_sampled_answers_have_the_targets_distribution(engine):
    # Few tokens may come, about equally often: then little has to be counted.
    sampling, prompt = Sampling(temperature=3.0, top_k=3), prompts(engine)[-1]
    counts: list[dict[tuple[int, ...], int]] = [{}, {}]
    for drafts, kind in zip((0, 3), counts, strict=True):
        for seed in range(SAMPLES):
            asked = sampling._replace(seed=seed + SAMPLES * drafts)
            rounds = engine.generate(prompt, draft_tokens=drafts, max_tokens=3, sampling=asked)
            tokens = tuple(token for one in rounds for token in one.tokens)[:2]
            kind[tokens] = kind.get(tokens, 0) + 1
    keys = sorted({*counts[0], *counts[1]})
    plain, drafted = (np.array([kind.get(key, 0) for key in keys], np.float64) for kind in counts)
    assert alike(plain, drafted) > 0.001


def test_a_greedy_guess_is_not_taken_for_one_that_was_drawn(pair):
    """A token that is always guessed must have all the odds: with the assistant's own it is accepted too often."""
    import torch
    from transformers import AutoModelForCausalLM

    from backends.pytorch.drafting import Assistant

    model = AutoModelForCausalLM.from_pretrained(pair.drafter)
    torch.manual_seed(1)  # of most numbers it makes nothing, of a few it is sure
    states = {
        kind: (torch.randn(1, 1, 9, size),) * 2 for kind, size in (("sliding_attention", 64), ("full_attention", 128))
    }
    given = {"inputs_embeds": torch.randn(1, 1, 640), "position_ids": torch.tensor([[9]]), "shared_kv_states": states}
    assistant = Assistant(model)
    with torch.inference_mode():
        assistant.begin(3, sampled=False)
        own = model(**given).logits.softmax(-1)
        assistant.begin(3, sampled=True)
        shown = model(**given).logits.softmax(-1)
    assert own.max() < 0.99
    assert shown.argmax() == own.argmax()
    assert (shown.max(), shown.sum()) == (1.0, 1.0)
    assert assistant.drafted == 1


def test_a_seed_gives_an_answer_again(engine):
    asked = Sampling(temperature=0.9, top_k=40, repetition_penalty=1.2, seed=5)
    prompt = prompts(engine)[-1]
    first, second = (list(engine.generate(prompt, draft_tokens=3, max_tokens=40, sampling=asked)) for _ in range(2))
    assert first == second


# ---- The server


def test_speed_with_and_without_the_drafter(backend, model, capsys):
    with served(backend, model) as endpoint, joined(backend, endpoint) as client:

        def ask(drafts: int) -> demo.Events:
            question = [{"role": "user", "content": demo.QUESTION}]
            return client.chat(question, temperature=0, max_tokens=100, draft_tokens=drafts)

        found = demo.compare(ask, pairs=3)
        stats = backend.stats(endpoint)
    with capsys.disabled():
        counted = f"{found.timings.draft_n_accepted} of {found.timings.draft_n} drafted tokens accepted"
        print(f"\n{found.plain:.0f} tokens/s plain, {found.drafted:.0f} with the drafter, {counted}")
    assert found.same_text
    assert found.timings.draft_n and stats.drafter_active


def test_a_drafter_that_knows_nothing_is_counted_as_never_right(backend, model, pair, tmp_path):
    """Only its weights are other ones: no configuration tells, the counters do."""
    folder = scrambled(pair.drafter, tmp_path / "scrambled")
    with served(backend, msgspec.structs.replace(model, drafter=folder)) as endpoint:
        with joined(backend, endpoint) as client:
            *_, done = client.chat([{"role": "user", "content": QUESTIONS[0]}], temperature=0, max_tokens=40)
        assert isinstance(done, Done)
        assert done.timings.draft_n > 50
        assert done.timings.draft_n_accepted <= 0.1 * done.timings.draft_n


def test_a_drafter_that_is_never_right_is_left_out_where_that_is_wanted(model, pair, tmp_path, monkeypatch):
    monkeypatch.setenv(sessions.STATE, str(tmp_path / "state"))
    folder = blank(pair.drafter, tmp_path / "blank")
    words = ["launch", str(model.target), "--drafter", str(folder), "--backend", "transformers", "--detach", "--json"]
    done = CliRunner().invoke(cli, [*words, "--useless-drafter", "drop"])
    try:
        assert done.exception is None, done.output
        assert "nothing that the drafter proposes is right" in done.stderr
        assert json.loads(done.stdout)["drafter"]["enabled"] is False
    finally:
        for each in sessions.everything():
            sessions.end(each)


def test_a_port_that_is_taken_is_said(backend, model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RuntimeFailed, match=f"port {port} of 127.0.0.1 cannot be used") as caught:
            backend.start(backend.plan(model, Options(port=port)))
    assert "--port" in caught.value.hint


def test_broken_weights_are_one_sentence(backend, model, pair, tmp_path):
    folder = Path(shutil.copytree(pair.target, tmp_path / "broken"))
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)
    with pytest.raises(RuntimeFailed, match=r"the checkpoint in .*broken failed"):
        backend.start(backend.plan(msgspec.structs.replace(model, target=folder), Options()))


def test_server_that_dies_in_mid_stream_is_an_error(backend, model):
    with served(backend, model) as endpoint, joined(backend, endpoint) as client:
        events = client.chat([{"role": "user", "content": PASSAGE}], temperature=0, max_tokens=1500)
        assert isinstance(next(events), Text)
        psutil.Process(endpoint.pid).kill()
        with pytest.raises(RuntimeFailed, match="SIGKILL"):
            list(events)


def test_a_parent_that_is_killed_leaves_no_orphan(model):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom backends.base import Model, Options, load\n"
        "backend = load('transformers')\n"
        "model = Model(name='demo', target=Path(sys.argv[1]), context_tokens=2048)\n"
        "print(backend.start(backend.plan(model, Options())).pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(model.target)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
