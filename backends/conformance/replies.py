"""OpenAI's replies as far as a client relies on them, and questions to get some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from backends.base import Endpoint
from backends.conformance.rules import Broken, require

if TYPE_CHECKING:
    import httpx

QUESTION = "Which model fits 16 GB?"
TOKENS = 48
"""Of the answers that are asked for: more than a word, less than the embedded model's whole answer."""
CHAT = "chat/completions"

T = TypeVar("T")


class Message(msgspec.Struct):
    """What was said; thoughts apart."""

    content: str | None = None
    reasoning_content: str | None = None
    role: str | None = None

    @property
    def text(self) -> str:
        return (self.reasoning_content or "") + (self.content or "")


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class Choice(msgspec.Struct):
    message: Message
    finish_reason: str


class Reply(msgspec.Struct):
    id: str
    object: Literal["chat.completion"]
    model: str
    choices: tuple[Choice, ...]
    usage: Usage


class Delta(msgspec.Struct):
    delta: Message
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    id: str
    object: Literal["chat.completion.chunk"]
    choices: tuple[Delta, ...]
    usage: Usage | None = None


class Error(msgspec.Struct):
    message: str
    type: str


class Refusal(msgspec.Struct):
    error: Error


def body(endpoint: Endpoint, text: str = QUESTION, **fields: Any) -> dict[str, Any]:
    """A request whose answer is the same every time."""
    question = {"model": endpoint.model, "messages": [{"role": "user", "content": text}]}
    return {**question, "temperature": 0, "max_tokens": TOKENS, **fields}


def ask(http: httpx.Client, request: Mapping[str, Any]) -> tuple[Choice, Usage]:
    """The only answer in the reply to a request."""
    reply = http.post(CHAT, json=request)
    require(reply.is_success, f"a plain question is answered with {reply.status_code}: {reply.text[:200]}")
    found = decoded(reply.content, Reply, "the reply")
    require(len(found.choices) == 1, f"the reply has {len(found.choices)} choices, not one")
    return found.choices[0], found.usage


def stream(http: httpx.Client, request: Mapping[str, Any]) -> tuple[str, ...]:
    """The `data:` of every event of a streamed reply."""
    with http.stream("POST", CHAT, json={**request, "stream": True}) as reply:
        kind = reply.headers.get("content-type", "none")
        require(reply.is_success, f"a streamed question is answered with {reply.status_code}")
        require(kind.startswith("text/event-stream"), f"the stream's content type is {kind}")
        lines = [line for line in reply.iter_lines() if line.startswith("data:")]
    return tuple(line.removeprefix("data:").strip() for line in lines)


def chunks(events: tuple[str, ...]) -> tuple[Chunk, ...]:
    """The stream's objects, without its end mark."""
    return tuple(decoded(event.encode(), Chunk, "a chunk of the stream") for event in events if event != "[DONE]")


def streamed_text(parts: tuple[Chunk, ...]) -> str:
    return "".join(choice.delta.text for part in parts for choice in part.choices)


def decoded(data: bytes, kind: type[T], what: str) -> T:
    """Raises Broken where it is not what OpenAI's clients expect."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Broken(f"{what} is not OpenAI's: {error}") from None
