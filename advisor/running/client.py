"""One OpenAI-compatible streaming client for every backend.

Streams the answer as it comes and ends with what was counted. A server that dies while answering is reported with the
cause that its backend knows, not as a broken connection.
"""

from __future__ import annotations

import contextlib
import functools
import html
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from advisor.machine import Record
from backends.base import Backend, Endpoint, LaunchPlan

Cause = Callable[[], AdvisorError]
"""Says why the server no longer answers; may take a second to find out."""
CLIENT_ERRORS = range(400, 500)
MARKUP = re.compile(r"<[^>]*>|^[^<>]*>")  # with the rest of the tag that a body begins with
LATER = (408, 429)
"""Not the request's fault: too slow, or too many at once."""
CONNECT_S = 5.0
KEY = "ADVISOR_API_KEY"
"""The environment's name for the key, for the server and for its clients."""


class Timings(Record, frozen=True, kw_only=True):
    """What the server counted, as far as it says; names as llama-server's."""

    cache_n: int | None = None
    prompt_n: int | None = None
    prompt_per_second: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None
    predicted_per_second: float | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None
    accepted_per_position: tuple[float, ...] = ()
    draft_tokens: int | None = None
    draft_lengths: tuple[int, ...] = ()
    """Rounds that drafted nothing, one token, two, ..."""


class Text(Record, frozen=True, kw_only=True):
    """Some text of the answer; `thought`: of the reasoning before it. `timings`: so far, where they were asked for."""

    text: str
    thought: bool = False
    timings: Timings | None = None


class Done(Record, frozen=True, kw_only=True):
    """The end of an answer. `reason`: `stop`, `length`, or what else the server says."""

    reason: str
    timings: Timings


def authorized(key: str | None = None) -> dict[str, str]:
    """The header that carries an API key, or the one of the environment."""
    found = key or os.environ.get(KEY)
    return {"Authorization": f"Bearer {found}"} if found else {}


class Client:
    """Talks to one endpoint.

    Args:
        base_url: ends in `/v1`.
        model: the name the server knows its model by.
        cause: asked when the connection breaks.
        key: what the server wants as its API key; where none is given, $ADVISOR_API_KEY.
    """

    counts_live = True
    """Whether requests may ask for `timings_per_token`."""

    def __init__(self, base_url: str, model: str, *, cause: Cause | None = None, key: str | None = None) -> None:
        self._model = model
        self._cause = cause or (lambda: RuntimeFailed(f"the server at {base_url} does not answer"))
        # No limit on reading: a long prompt on a slow machine is silent for minutes; a server that dies closes its
        # socket, so nothing waits for the dead.
        timeout = httpx.Timeout(CONNECT_S, read=None)
        # Never through a proxy: endpoints are on this machine.
        # Certificates take a while to load; without https there are none to check.
        self._http = httpx.Client(
            base_url=base_url + "/",
            timeout=timeout,
            trust_env=False,
            headers=authorized(key),
            verify=base_url.startswith("https:"),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def await_at_most(self, seconds: float) -> None:
        """From now on a server that is silent for so long has failed, though it may still be there."""
        self._http.timeout = httpx.Timeout(CONNECT_S, read=seconds)

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Iterator[Text | Done]:
        """Stream the answer to a conversation; `options` are fields of the request, None ones left out. With
        `timings_per_token`, each text comes with what was counted so far, where the server does that.

        Raises:
            UsageError: the server refuses the request.
            RuntimeFailed: it failed, or is gone.
        """
        return self._stream("chat/completions", {"messages": list(messages)}, options)

    def complete(self, prompt: str, **options: Any) -> Iterator[Text | Done]:
        """Stream the continuation of a text; otherwise as `chat`."""
        return self._stream("completions", {"prompt": prompt}, options)

    def _stream(self, path: str, what: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Text | Done]:
        body = {"model": self._model, **what, "stream": True, "stream_options": {"include_usage": True}}
        body |= {name: value for name, value in options.items() if value is not None}
        try:
            with self._http.stream("POST", path, json=body) as reply:
                if reply.is_error:
                    reply.read()
                    raise _refusal(reply)
                yield from _events(reply, self.noticed)
        except httpx.ReadTimeout:
            silence = f"{self._http.timeout.read or 0:.0f} s"
            raise RuntimeFailed(f"the server has said nothing for {silence}", hint="its log may say why") from None
        except httpx.HTTPError as error:
            raise self._cause() from error

    def noticed(self, chunk: Mapping[str, Any]) -> None:
        """Told of every chunk of a stream as it came, for dialects that count by other fields."""


@contextlib.contextmanager
def running(backend: Backend, plan: LaunchPlan) -> Iterator[Client]:
    """A client of an endpoint that lives as long as the block; nothing of it is left afterwards.

    Raises:
        AdvisorError: as `Backend.start`.
    """
    endpoint = backend.start(plan)
    try:
        with joined(backend, endpoint) as it:
            yield it
    finally:
        backend.stop(endpoint)


def joined(backend: Backend, endpoint: Endpoint) -> Client:
    """A client of an endpoint that runs, whoever started it: in its backend's dialect, where it has one."""
    if (own := backend.client(endpoint)) is not None:
        return own
    cause = functools.partial(backend.cause, endpoint)
    return Client(endpoint.base_url, endpoint.model, cause=cause, key=endpoint.api_key)


def _events(reply: httpx.Response, noticed: Callable[[Mapping[str, Any]], None]) -> Iterator[Text | Done]:
    reason = ""
    timings: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    for line in reply.iter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if data == "[DONE]":
            break
        chunk = _decoded(data)
        noticed(chunk)
        timings = chunk.get("timings") or timings
        for choice in chunk.get("choices") or ():
            yield from _texts(choice, _timings(timings, {}) if timings else None)
            reason = choice.get("finish_reason") or reason
        usage = chunk.get("usage") or usage
    if not reason:
        # The stream ended early though politely; whoever knows the server says why.
        raise httpx.RemoteProtocolError("the stream ended before the answer did")
    yield Done(reason=reason, timings=_timings(timings, usage))


def _decoded(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise RuntimeFailed(f"the server sent something that is no JSON: {data[:80]!r}") from None
    if not isinstance(chunk, dict):
        raise RuntimeFailed(f"the server sent something unexpected: {data[:80]!r}")
    if chunk.get("error"):
        raise RuntimeFailed(f"the server failed: {_message(chunk)}")
    return chunk


def _texts(choice: Mapping[str, Any], timings: Timings | None) -> Iterator[Text]:
    delta = choice.get("delta") or {}
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    if thought:
        yield Text(text=thought, thought=True, timings=timings)
    text = delta.get("content") or choice.get("text")
    if text:
        yield Text(text=text, timings=timings)


def _timings(timings: Mapping[str, Any], usage: Mapping[str, Any]) -> Timings:
    known = {name: timings[name] for name in Timings.__struct_fields__ if timings.get(name) is not None}
    known["accepted_per_position"] = tuple(known.get("accepted_per_position", ()))
    known["draft_lengths"] = tuple(known.get("draft_lengths", ()))
    known.setdefault("prompt_n", usage.get("prompt_tokens"))
    known.setdefault("predicted_n", usage.get("completion_tokens"))
    return Timings(**known)


def _refusal(reply: httpx.Response) -> AdvisorError:
    try:
        message = _message(reply.json())
    except ValueError:
        message = _unmarked(reply.text)[:200]
    if reply.status_code == httpx.codes.UNAUTHORIZED:
        return UsageError(message or "the server wants an API key", hint=f"put it into the environment's {KEY}")
    ours = reply.status_code in CLIENT_ERRORS and reply.status_code not in LATER
    kind = UsageError if ours else RuntimeFailed
    return kind(message or f"the server answered {reply.status_code}")


def _unmarked(text: str) -> str:
    """What a page of HTML says in its body, in a line; other texts as they are."""
    if not text.lstrip().startswith("<"):
        return text
    return " ".join(html.unescape(MARKUP.sub(" ", text.partition("<body")[2])).split())


def _message(body: Any) -> str:
    """The message of an error object, whatever of the usual shapes it has: OpenAI's, or FastAPI's."""
    error = body.get("error") or body.get("detail") or body if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)
