"""How replies look: OpenAI's objects for a chat and for plain text, whole and in pieces, and its errors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from advisor.errors import AdvisorError, UsageError
from backends.native.answer import Final
from backends.native.library import ContextFull
from backends.native.service import Busy, Stopping, UnknownModel
from backends.native.text import Piece, joined
from backends.native.tools import Call


@dataclass(frozen=True)
class Shape:
    """How replies of one of the two faces look."""

    model: str
    chat: bool
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def envelope(self, choices: Sequence[Mapping[str, Any]], *, chunk: bool) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        return {
            "id": f"chat{self.id}" if self.chat else self.id,
            "object": kind + (".chunk" if chunk and self.chat else ""),
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, **choice} for choice in choices],
        }

    def chunk(self, piece: Piece | Call, *, first: bool, calls: int = 0) -> dict[str, Any]:
        """One piece of a stream. `calls`: how many tool calls have begun, with this one."""
        if not self.chat:
            assert isinstance(piece, Piece)  # noqa: S101 - plain text has no calls
            return self.envelope([{"text": piece.text, "finish_reason": None}], chunk=True)
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if isinstance(piece, Call):
            more = {"function": {"arguments": piece.arguments}}
            delta["tool_calls"] = [{"index": calls - 1, **(called(piece) if piece.name else more)}]
        else:
            delta["reasoning_content" if piece.thought else "content"] = piece.text
        return self.envelope([{"delta": delta, "finish_reason": None}], chunk=True)

    def last(self, final: Final) -> dict[str, Any]:
        body: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return {**self.envelope([{**body, "finish_reason": final.reason}], chunk=True), **_numbers(final)}

    def usage(self, final: Final) -> dict[str, Any]:
        """The chunk that OpenAI sends after the last when it was asked for usage."""
        return {**self.envelope([], chunk=True), **_numbers(final)}

    def whole(self, pieces: Sequence[Piece | Call], final: Final) -> dict[str, Any]:
        pieces = joined(pieces)
        text = "".join(piece.text for piece in pieces if isinstance(piece, Piece) and not piece.thought)
        choice: dict[str, Any] = {"finish_reason": final.reason}
        if self.chat:
            choice["message"] = _message(text, pieces)
        else:
            choice["text"] = text
        return {**self.envelope([choice], chunk=False), **_numbers(final)}


def _message(text: str, pieces: Sequence[Piece | Call]) -> dict[str, Any]:
    thought = "".join(piece.text for piece in pieces if isinstance(piece, Piece) and piece.thought)
    calls = [called(piece) for piece in pieces if isinstance(piece, Call)]
    # Beside calls there is most often nothing to say but a line break.
    message: dict[str, Any] = {"role": "assistant", "content": text if text.strip() or not calls else None}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    return message


def called(call: Call) -> dict[str, Any]:
    """OpenAI's object for a tool call."""
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _numbers(final: Final) -> dict[str, Any]:
    timings = final.timings
    prompt = timings.cache_n + timings.prompt_n
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": timings.predicted_n,
        "total_tokens": prompt + timings.predicted_n,
        "prompt_tokens_details": {"cached_tokens": timings.cache_n},
    }
    return {"usage": usage, "timings": msgspec.to_builtins(timings)}


def problem(
    message: str, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """An OpenAI error object. Half characters of a request that it quotes are marked, or it could not be sent."""
    text = message.encode("utf-8", errors="replace").decode()
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def failure(
    message: str,
    status: int,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return JSONResponse(problem(message, kind, code, param), status_code=status, headers=headers)


def refused(error: AdvisorError) -> Response:
    text = f"{error.message}. {error.hint}" if error.hint else error.message
    match error:
        case Busy():
            headers = {"Retry-After": str(error.retry)}
            return failure(text, 429, kind="rate_limit_error", code=error.code, headers=headers)
        case Stopping():
            return failure(text, 503, kind="server_error", code=error.code, headers={"Retry-After": "5"})
        case UnknownModel():
            return failure(text, 404, code=error.code, param="model")
        case ContextFull():
            return failure(text, 400, code="context_length_exceeded", param="messages")
        case UsageError():
            return failure(text, 400)
    return failure(text, 500, kind="server_error", code=error.code)
