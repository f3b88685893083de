"""Rules for a running endpoint: it starts, answers, streams, stops, gives way, and refuses as OpenAI's does."""

from __future__ import annotations

import ipaddress
import itertools
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import psutil

from advisor.errors import AdvisorError
from backends.base import Endpoint
from backends.conformance.bench import Bench, among, children
from backends.conformance.replies import (
    CHAT,
    QUESTION,
    TOKENS,
    Refusal,
    ask,
    body,
    chunks,
    decoded,
    stream,
    streamed_text,
)
from backends.conformance.rules import Broken, Skipped, require

if TYPE_CHECKING:
    import httpx

GONE_S = 5.0
"""In which what was ended has to be gone."""
LONG_S = 1.5
"""How long the answer should take that is not waited for, as far as the context allows."""
TRIES = 3
"""The best of these counts: other programs use this machine too."""
MOST_LEFT = 16
MALFORMED: dict[str, bytes | dict[str, Any]] = {
    "half a JSON document": b'{"messages": [',
    "no messages": {"messages": None},
    "messages that are a text": {"messages": QUESTION},
    "a content that is a number": {"messages": [{"role": "user", "content": 5}]},
    "a temperature that is a word": {"temperature": "hot"},
    "a max_tokens that is a word": {"max_tokens": "many"},
}


def start(bench: Bench) -> None:
    """start returns a loopback endpoint whose server lists its model and answers at once."""
    endpoint = bench.start(drafter=bench.may_draft())
    require(endpoint.backend == bench.backend.name, f"the endpoint is of a backend {endpoint.backend!r}")
    require(endpoint.base_url.endswith("/v1"), f"its address does not end in /v1: {endpoint.base_url}")
    require(bench.backend.shared or loopback(endpoint), f"others can reach it: {endpoint.base_url}")
    require(not endpoint.pid or psutil.pid_exists(endpoint.pid), f"there is no process {endpoint.pid}")
    with bench.http(endpoint) as http:
        listed = http.get("models")
        require(listed.is_success, f"/v1/models is answered with {listed.status_code}")
        names = [model.get("id") for model in listed.json().get("data", [])]
        require(among(endpoint.model, names), f"/v1/models lists {names}, not {endpoint.model!r}")
        ask(http, body(endpoint, max_tokens=1))


def loopback(endpoint: Endpoint) -> bool:
    host = urlsplit(endpoint.base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def start_refuses(bench: Bench) -> None:
    """A file that is no model is refused with an AdvisorError by start at the latest, and nothing is left running."""
    bench.usable()
    bench.plan()
    bench.close()
    backend, before = bench.backend, children()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "broken.gguf"
        file.write_bytes(b"GGUF" + b"\xff" * 4096)
        tag = "advisor-has-no-such-model" if bench.model.tag else ""
        wrong = msgspec.structs.replace(bench.model, target=file, tag=tag, drafter=None, draft_tokens=0)
        try:
            plan = backend.plan(wrong, bench.options)
            backend.prepare(plan, lambda *_: None)
            backend.stop(backend.start(plan))
        except AdvisorError as error:
            require(error.message, "the error says nothing")
        else:
            raise Broken("it starts with a file that is no model")
    left = wait_gone(lambda: sorted(process.pid for process in children() - before))
    require(not left, f"it leaves processes behind: {left}")


def wait_gone(left: Any) -> Any:
    """What is still left when all had time to go."""
    until = time.monotonic() + GONE_S
    while (found := left()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def chat(bench: Bench) -> None:
    """A question gets OpenAI's reply: text, a reason to end, a usage, and no more tokens than were asked for."""
    endpoint = bench.endpoint()
    with bench.http(endpoint) as http:
        answer, usage = ask(http, body(endpoint, max_tokens=8))
        require(answer.message.text, "the answer is empty")
        require(answer.message.role == "assistant", f"the answer's role is {answer.message.role!r}")
        require(answer.finish_reason in ("length", "stop"), f"it ended for the reason {answer.finish_reason!r}")
        require(usage.prompt_tokens > 0, "the usage counts no prompt")
        require(0 < usage.completion_tokens <= 8, f"{usage.completion_tokens} tokens came, asked for were 8")  # noqa: PLR2004


def client(bench: Bench) -> None:
    """Advisor's own client gets text, the reason of its end, and the number of tokens."""
    from advisor.running.client import Done, Text  # noqa: PLC0415

    with bench.client(bench.endpoint()) as own:
        events = list(own.chat([{"role": "user", "content": QUESTION}], temperature=0, max_tokens=TOKENS))
    *texts, done = events
    require(isinstance(done, Done), "the answer does not end with its counts")
    require(texts and all(isinstance(text, Text) for text in texts), "the answer is empty")
    require(isinstance(done, Done) and done.timings.predicted_n, "it does not say how many tokens came")


def streaming(bench: Bench) -> None:
    """A stream is OpenAI's: pieces as they come, one reason to end, the usage asked for, and `[DONE]` last."""
    endpoint = bench.endpoint()
    with bench.http(endpoint) as http:
        events = stream(http, body(endpoint, stream_options={"include_usage": True}))
    require(events and events[-1] == "[DONE]", "it does not end with [DONE]")
    parts = chunks(events)
    pieces = [choice.delta.text for part in parts for choice in part.choices if choice.delta.text]
    require(len(pieces) > 1, f"the text comes in {len(pieces)} piece, not as it is generated")
    reasons = [choice.finish_reason for part in parts for choice in part.choices if choice.finish_reason]
    require(len(reasons) == 1, f"it gives {len(reasons)} reasons to end, not one")
    require(parts[-1].usage, "its last chunk has no usage, though it was asked for")


def stop_strings(bench: Bench) -> None:
    """An answer ends before a stop string, streamed or not, and says so."""
    endpoint = bench.endpoint()
    with bench.http(endpoint) as http:
        whole = ask(http, body(endpoint))[0].message.content or ""
        require(len(whole) > 8, f"the answer is too short to be stopped: {whole!r}")  # noqa: PLR2004
        # In the middle of words: it does not begin or end where tokens do.
        mark = whole[len(whole) // 3 :][:4]
        asked = body(endpoint, stop=[mark])
        answer, _ = ask(http, asked)
        parts = chunks(stream(http, asked))
    streamed = [choice.finish_reason for part in parts for choice in part.choices if choice.finish_reason]
    for way, text, reason in (
        ("", answer.message.content or "", answer.finish_reason),
        ("streamed, ", streamed_text(parts), streamed[-1] if streamed else None),
    ):
        require(mark not in text, f"{way}the answer goes on after the stop string {mark!r}")
        require(reason == "stop", f"{way}the reason is {reason!r} where a stop string ended the answer")


def cancelling(bench: Bench) -> None:
    """When clients go away in mid-stream, the server stops answering them and answers the next one."""
    endpoint = bench.endpoint()
    with bench.http(endpoint) as http:
        request = _endless(bench, endpoint, http)
        begun = time.monotonic()
        _, usage = ask(http, request)
        whole = time.monotonic() - begun
        count = min(MOST_LEFT, max(3, math.ceil(2 * LONG_S / whole)))
        if count * whole < LONG_S:
            raise Skipped(f"{count} answers take only {count * whole:.2f} s: nobody would notice")
        owed = Owed(count, usage.completion_tokens, whole)
        tries = (_unstopped(bench, endpoint, http, request, owed) for _ in range(TRIES))
        wrong = list(itertools.takewhile(bool, tries))
    require(len(wrong) < TRIES, "".join(wrong[-1:]))


class Owed(NamedTuple):
    """Answers that nobody reads, the tokens of each, and seconds that each would take."""

    answers: int
    tokens: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.answers} answers of {self.tokens} tokens that nobody reads"


def _unstopped(bench: Bench, endpoint: Endpoint, http: httpx.Client, request: dict[str, Any], owed: Owed) -> str:
    """Go away from them; what shows that they went on nevertheless, empty where nothing does."""
    before = bench.backend.stats(endpoint)
    begun = time.monotonic()
    for _ in range(owed.answers):
        _leave(http, request)
    ask(http, body(endpoint, max_tokens=1))
    took = time.monotonic() - begun
    # Where all of them were finished, it took `count` times as long as one, where they were dropped, next to nothing.
    if took >= owed.answers * owed.seconds / 2:
        return f"the next answer came after {took:.1f} s: it waited for {owed}"
    # A server with several slots may go on beside it: then it counts on, one answer at least in the time of one, and in
    # the time of all of them most. On a busy machine it takes one that drops them a while to notice.
    for wait in (1, owed.answers):
        time.sleep(max(0.0, begun + took + wait * owed.seconds - time.monotonic()))
        after = bench.backend.stats(endpoint)
        more = after.predicted_tokens - before.predicted_tokens
        if after.unknown or more < wait * owed.tokens / 2:
            return ""
    return f"it made {more} tokens of {owed}"


def _leave(http: httpx.Client, request: dict[str, Any]) -> None:
    with http.stream("POST", CHAT, json={**request, "stream": True}) as reply:
        require(reply.is_success, f"a streamed question is answered with {reply.status_code}")
        next((line for line in reply.iter_lines() if line.startswith("data:")), None)


def _endless(bench: Bench, endpoint: Endpoint, http: httpx.Client) -> dict[str, Any]:
    """A request whose answer takes a while: as many tokens as this server makes in that time, and no end before."""
    asked = body(endpoint, ignore_eos=True, logit_bias=dict.fromkeys(_ends(bench), -100))
    begun = time.monotonic()
    _, usage = ask(http, asked)
    rate = usage.completion_tokens / (time.monotonic() - begun)
    return {**asked, "max_tokens": max(TOKENS, min(int(LONG_S * rate), bench.model.context_tokens * 3 // 4))}


def _ends(bench: Bench) -> list[str]:
    """The tokens that end an answer, where the target is a file that tells: not all servers know `ignore_eos`."""
    from advisor.files import gguf  # noqa: PLC0415

    try:
        values = gguf.read(bench.model.target).values
    except AdvisorError:
        return []
    known = (values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
    return [str(token) for token in known if token is not None]


def errors(bench: Bench) -> None:
    """Malformed requests are refused with a status of 4xx and OpenAI's error object, and the next one is answered.

    What is no JSON at all may get a 500 instead: some builds of llama-server count it as their own failure.
    """
    endpoint = bench.endpoint()
    with bench.http(endpoint) as http:
        for what, wrong in MALFORMED.items():
            sent = wrong if isinstance(wrong, bytes) else msgspec.json.encode(body(endpoint) | wrong)
            reply = http.post(CHAT, content=sent, headers={"Content-Type": "application/json"})
            _refused(reply, what, server_error=isinstance(wrong, bytes))
        ask(http, body(endpoint, max_tokens=1))


def context_full(bench: Bench) -> None:
    """A prompt longer than the context is refused with an error object, and the next request is answered."""
    endpoint = bench.endpoint()
    with bench.http(endpoint) as http:
        _refused(http.post(CHAT, json=body(endpoint, "word " * (2 * bench.model.context_tokens))), "too long a prompt")
        ask(http, body(endpoint, max_tokens=1))


def _refused(reply: httpx.Response, what: str, *, server_error: bool = False) -> None:
    status = reply.status_code
    refused = reply.is_client_error or (server_error and reply.is_server_error)
    require(refused, f"{what} is answered with {status}, not with 4xx")
    refusal = decoded(reply.content, Refusal, f"the answer to {what} ({status})")
    require(refusal.error.message, f"the error about {what} has no message")


RULES = (start, start_refuses, chat, client, streaming, stop_strings, cancelling, errors, context_full)
