"""How replies look: OpenAI's objects for a chat and for plain text, whole and in pieces, and its errors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from advisor.errors import AdvisorError, UsageError
from backends.native.answer import Final
from backends.native.library import ContextFull
from backends.native.text import Piece


@dataclass(frozen=True)
class Shape:
    """How replies of one of the two faces look."""

    model: str
    chat: bool
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def envelope(self, choice: Mapping[str, Any], *, chunk: bool) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind + (".chunk" if chunk and self.chat else ""),
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, **choice}],
        }

    def chunk(self, piece: Piece, *, first: bool) -> dict[str, Any]:
        if not self.chat:
            return self.envelope({"text": piece.text, "finish_reason": None}, chunk=True)
        delta = {"reasoning_content" if piece.thought else "content": piece.text}
        if first:
            delta = {"role": "assistant", **delta}
        return self.envelope({"delta": delta, "finish_reason": None}, chunk=True)

    def last(self, final: Final) -> dict[str, Any]:
        body: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return {**self.envelope({**body, "finish_reason": final.reason}, chunk=True), **_numbers(final)}

    def whole(self, pieces: list[Piece], final: Final) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces if not piece.thought)
        if not self.chat:
            return {
                **self.envelope({"text": text, "finish_reason": final.reason}, chunk=False),
                **_numbers(final),
            }
        message = {"role": "assistant", "content": text}
        thought = "".join(piece.text for piece in pieces if piece.thought)
        if thought:
            message["reasoning_content"] = thought
        choice = {"message": message, "finish_reason": final.reason}
        return {**self.envelope(choice, chunk=False), **_numbers(final)}


def _numbers(final: Final) -> dict[str, Any]:
    timings = final.timings
    usage = {
        "prompt_tokens": timings.prompt_n,
        "completion_tokens": timings.predicted_n,
        "total_tokens": timings.prompt_n + timings.predicted_n,
    }
    return {"usage": usage, "timings": msgspec.to_builtins(timings)}


def failure(message: str, status: int, *, kind: str = "invalid_request_error", code: str | None = None) -> Response:
    """An OpenAI error object."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def refused(error: AdvisorError) -> Response:
    text = f"{error.message}. {error.hint}" if error.hint else error.message
    if isinstance(error, ContextFull):
        return failure(text, 400, code="context_length_exceeded")
    if isinstance(error, UsageError):
        return failure(text, 400)
    return failure(text, 500, kind="server_error", code=error.code)
