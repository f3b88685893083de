"""llama-server as an outside witness: its own greedy answers on the same files are this engine's.

Where the two part, plain decoding's best two tokens must lie within the noise of this runtime; such places are shown.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from backends.native.depth import AUTO
from backends.native.engine import Engine
from backends.native.prompt import Prompt
from tests.bench.engine import cases
from tests.bench.servers import DEFAULT, Server, llama_server
from tests.engine.conftest import FULL
from tests.engine.lossless import QUESTIONS, same, tokens
from tests.engine.random_pair import Pair
from tests.tools import llama_server as programs

pytestmark = [pytest.mark.engine, pytest.mark.llama_server]

LIMIT = 60


@pytest.fixture(scope="module")
def program() -> Path:
    found = programs.find()
    if found is None:
        pytest.skip(f"no llama-server: `{programs.COMMAND}` builds one")
    return found


def theirs(server: Server, prompt: list[int], *, reuse: bool = False) -> list[int]:
    body = {"prompt": prompt, "n_predict": LIMIT, "temperature": 0, "cache_prompt": reuse, "return_tokens": True}
    found: list[int] = server.http.post("/completion", json=body).raise_for_status().json()["tokens"]
    return found


def ties(engine: Engine, prompt: list[int], ours: list[int], answer: list[int]) -> int:
    """Assert that the two are the same but for near-ties; how many there were."""
    if ours[-1] in engine.end and answer[-1:] != ours[-1:]:
        ours = ours[:-1]  # it does not say the token that ended its answer
    verdict = same(engine, prompt, ours, answer, 16, foreign=True)
    assert verdict.wrong < 0, verdict
    return verdict.ties


@pytest.mark.parametrize("drafts", [0, DEFAULT])
def test_the_same_answers(
    program: Path, demo: Engine, demo_pair: Pair, drafts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = cases(40 if FULL else 1)
    near = 0
    with llama_server(program, demo_pair, drafts, demo.target.threads.cores) as server:
        for case in asked:
            prompt = demo.target.model.tokenize(case.text, special=True, begin=True)
            answer = theirs(server, prompt)
            near += sum(ties(demo, prompt, tokens(demo, prompt, length, LIMIT), answer) for length in (drafts, AUTO))
    with capsys.disabled():
        print(f"\nllama-server with {drafts} drafted: {2 * len(asked)} answers compared, {near} near-ties")


def test_the_same_conversations(
    program: Path, demo: Engine, demo_pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turn after turn, each side reading only what is new, until the conversation is longer than the window."""
    prompts, near, count = Prompt(demo.target.model), 0, 0
    ask = functools.partial(tokens, demo, drafts=AUTO, limit=LIMIT, reuse=True)
    with llama_server(program, demo_pair, DEFAULT, demo.target.threads.cores) as server:
        for first in range(20 if FULL else 1):
            messages: list[dict[str, str]] = []
            for turn in range(6):
                messages.append({"role": "user", "content": QUESTIONS[(first + turn) % len(QUESTIONS)]})
                prompt = prompts.chat(messages)
                ours, answer = ask(prompt), theirs(server, prompt, reuse=True)
                said = b"".join(map(demo.target.model.piece, ours)).decode(errors="replace")
                messages.append({"role": "assistant", "content": said})
                count, near = count + 1, near + ties(demo, prompt, ours, answer)
    with capsys.disabled():
        print(f"\nllama-server in conversations of 6 turns: {count} answers compared, {near} near-ties")
