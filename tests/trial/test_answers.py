"""How long an answer took, over real HTTP: a proxy may keep it back, and hand it over in one piece."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from advisor.errors import RuntimeFailed
from advisor.pages.trial_document import _warnings
from advisor.running.client import Client
from advisor.trials.prompts import prompt_set, prompts
from advisor.trials.schedule import Plan
from advisor.trials.trial import Trial
from advisor.trials.trial_sessions import TRIES, Asking
from backends.base import Backend, Endpoint
from backends.counting import FASTEST

TOKENS = 160
HELD_S, PACE_S = 0.3, 0.002
PROMPT = prompts(prompt_set().kinds[0])[0]


class Answer(BaseHTTPRequestHandler):
    """Says so many words, one by one or at once, as its server was told for this answer."""

    def do_POST(self) -> None:
        server = cast("Held", self.server)
        self.rfile.read(int(self.headers["Content-Length"]))
        told = server.told.pop(0) if len(server.told) > 1 else server.told[0]
        server.asked += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        last: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": "length"}]}
        usage = {"prompt_tokens": 40, "completion_tokens": TOKENS}
        events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": "word "}}]}] * (
            1 if told == "whole" else TOKENS
        )
        lines = [
            f"data: {json.dumps(each)}\n\n".encode() for each in [*events, last | server.timings | {"usage": usage}]
        ]
        if told == "streamed":
            for line in lines:
                time.sleep(PACE_S)
                self.wfile.write(line)
        else:
            time.sleep(HELD_S)
            self.wfile.write(b"".join(lines))

    def log_message(self, *_: object) -> None: ...


class Held(ThreadingHTTPServer):
    """`told`: what becomes of each answer, the last for all that follow; `timings`: what it says itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.told = ["streamed"]
        self.timings: dict[str, Any] = {}
        self.asked = 0


@pytest.fixture
def server() -> Iterator[Held]:
    with Held() as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def asking(server: Held) -> Iterator[Asking]:
    base_url = f"http://127.0.0.1:{server.server_port}/v1"
    endpoint = Endpoint(base_url=base_url, model="m", backend="b", pid=0, name="m")
    backend = cast("Backend", SimpleNamespace(drafts_per_request=False))
    with Client(base_url, "m") as client:
        yield Asking(backend, endpoint, client)


def test_what_comes_word_by_word_is_timed_as_it_comes(server: Held, asking: Asking) -> None:
    found = asking.ask(PROMPT, 0, TOKENS, cold=True)
    assert (found.tokens, found.tries, server.asked) == (TOKENS, 1, 1)
    assert found.tokens_per_s < 1 / PACE_S
    assert found.first_s >= PACE_S
    assert found.seconds >= TOKENS * PACE_S


@pytest.mark.parametrize("told", ["whole", "at once"])
def test_what_comes_in_one_piece_is_no_measurement(server: Held, asking: Asking, told: str) -> None:
    """As one word or as many: it is asked for again, and then it is an error that says so."""
    server.told = [told]
    with pytest.raises(RuntimeFailed, match="in one piece"):
        asking.ask(PROMPT, 0, TOKENS, cold=True)
    assert server.asked == TRIES


def test_one_that_was_kept_back_is_asked_for_again_and_that_is_said(server: Held, asking: Asking) -> None:
    server.told = ["whole", "streamed"]
    trial = Trial(Plan(lengths=(0,), kinds=("code",), depth_tokens=0, passes=1, seconds=9, answer_s=1, quick=True))
    trial.prompts, trial.tokens = {PROMPT.cell: (PROMPT,)}, TOKENS
    sample = trial._sample(asking, PROMPT.cell, 0, 0)
    assert sample.answered.tries == server.asked == 2
    assert sample.answered.tokens_per_s < 1 / PACE_S
    assert any("1 answers came in one piece" in line for line in _warnings(trial))


@pytest.mark.parametrize("told", ["whole", "at once", "streamed"])
def test_a_server_that_times_its_answers_knows_better(server: Held, asking: Asking, told: str) -> None:
    """Its time is taken from the whole: the rest went by before the first token."""
    server.told, taken = [told], 0.2
    server.timings = {"timings": {"prompt_n": 40, "predicted_n": TOKENS, "predicted_ms": 1000 * taken}}
    found = asking.ask(PROMPT, 0, TOKENS, cold=True)
    assert found.tries == 1
    assert found.tokens_per_s == pytest.approx((TOKENS - 1) / taken)
    assert found.first_s <= found.seconds - taken


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_time_that_cannot_be_is_not_believed(server: Held, asking: Asking, rate: float) -> None:
    """None, or longer than the whole answer took."""
    server.timings = {"timings": {"predicted_n": TOKENS, "predicted_per_second": rate}}
    found = asking.ask(PROMPT, 0, TOKENS, cold=True)
    assert 1 < found.tokens_per_s < FASTEST
