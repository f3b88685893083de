"""The server's OpenAPI description: enough to generate clients, and requests that try to break it."""

from __future__ import annotations

from typing import Any

import msgspec

from advisor import __version__
from backends.native.request import Body

REFERENCES = "#/components/schemas/{name}"
ERRORS = {
    "400": "wrong, or too long for the context",
    "401": "no or a wrong API key",
    "403": "called by a name that is not this machine's",
    "404": "another model",
    "408": "the body did not come in time",
    "413": "the body is too large",
    "429": "the queue is full; Retry-After says when to ask again",
    "500": "the engine failed",
    "503": "the server is being stopped",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def document(model: str) -> dict[str, Any]:
    """The description. `model`: the name that requests give."""
    (body,), components = msgspec.json.schema_components([Body], ref_template=REFERENCES)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"advisor's native engine: {model}", "version": __version__},
        "paths": {
            "/v1/chat/completions": {"post": _post("Answer a conversation", body, ["messages"])},
            "/v1/completions": {"post": _post("Continue a text", body, ["prompt"])},
            "/v1/models": {"get": _get("The model that is served")},
            "/health": {"get": _get("Whether it answers")},
            "/props": {"get": _get("What it is")},
            "/metrics": {"get": _get("Counters for Prometheus", media="text/plain")},
            "/openapi.json": {"get": _get("This description")},
        },
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _get(summary: str, media: str = "application/json") -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "it", "content": {media: {}}}}}


def _post(summary: str, body: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"allOf": [body, {"required": required}]}
    error = {"application/json": {"schema": {"$ref": REFERENCES.format(name="Error")}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "the answer, or with `stream` its pieces",
                "content": {"application/json": {}, "text/event-stream": {}},
            },
            **{status: {"description": text, "content": error} for status, text in ERRORS.items()},
        },
    }
