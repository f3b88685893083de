"""Conversations as OpenAI's clients send them, into what Gemma's chat templates expect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from advisor.errors import UsageError
from backends.native.text import THOUGHT_BEGIN, THOUGHT_END

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
MOST_TOOLS = 256
THOUGHT = re.compile(f"{re.escape(THOUGHT_BEGIN)}.*?{re.escape(THOUGHT_END)}", re.DOTALL)

Message = dict[str, Any]


def conversation(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages with plain text, calls as objects, and no thoughts but those of a turn that is still going on.

    Raises:
        UsageError: a message is not what it should be; the text says which.
    """
    if not messages:
        raise UsageError("there are no messages")
    last_user = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    return [_message(index, message, going_on=index > last_user) for index, message in enumerate(messages)]


def _message(index: int, message: Mapping[str, Any], *, going_on: bool) -> Message:
    place = f"messages[{index}]"
    given = message.get("role")
    role = ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise UsageError(f"{place}.role is {str(given)[:32]!r}, not one of {', '.join(ROLES)}")
    plain: Message = {"role": role, "content": _text(message.get("content"), f"{place}.content")}
    if role == "tool":
        plain |= {key: str(message[key]) for key in ("tool_call_id", "name") if message.get(key) is not None}
    if role != "assistant":
        return plain
    plain["content"] = THOUGHT.sub("", plain["content"])
    if message.get("tool_calls"):
        plain["tool_calls"] = _calls(message["tool_calls"], f"{place}.tool_calls")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if going_on and isinstance(thought, str):
        plain["reasoning_content"] = thought
    return plain


def _text(content: Any, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for index, part in enumerate(content if isinstance(content, list) else [content]):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            kind = str(part.get("type"))[:32] if isinstance(part, dict) else type(part).__name__
            raise UsageError(
                f"{place}[{index}] is {kind!r}; a message's content must be text: this engine reads no images or sounds"
            )
        texts.append(text)
    return "\n".join(texts)


def _calls(calls: Any, place: str) -> list[Message]:
    """Earlier calls: their arguments come as JSON text, templates want the object."""
    if not isinstance(calls, list):
        raise UsageError(f"{place} is not a list")
    return [_call(call, f"{place}[{index}]") for index, call in enumerate(calls)]


def _call(call: Any, place: str) -> Message:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not _named(function):
        raise UsageError(f"{place} names no function")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        raise UsageError(f"{place}.function.arguments is not a JSON object")
    return {
        "id": str(call.get("id") or ""),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _named(function: Mapping[str, Any]) -> bool:
    name = function.get("name")
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def folded(messages: Sequence[Message]) -> list[Message]:
    """For older templates of Gemma 4, which want the results of calls, and what was said of them, beside the calls."""
    plain: list[Message] = []
    names: dict[str, str] = {}
    for message in messages:
        before = plain[-1] if plain else {}
        if message["role"] == "tool" and before.get("tool_calls"):
            name = names.get(message.get("tool_call_id", ""), message.get("name", "unknown"))
            results = [*before.get("tool_responses", ()), {"name": name, "response": message["content"]}]
            plain[-1] = {**before, "tool_responses": results}
        elif message["role"] == "assistant" and "tool_responses" in before and not message.get("tool_calls"):
            plain[-1] = {**before, "content": before["content"] + message["content"]}
        else:
            plain.append(message)
            names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls", ())}
    return plain


def definitions(tools: Sequence[Any] | None) -> list[Message]:
    """Tool definitions, with what templates take for granted.

    Raises:
        UsageError: one is no function, or they are too many.
    """
    if len(tools or ()) > MOST_TOOLS:
        raise UsageError(f"there are {len(tools or ())} tools; at most {MOST_TOOLS} can be given")
    return [_definition(tool, f"tools[{index}]") for index, tool in enumerate(tools or ())]


def _definition(tool: Any, place: str) -> Message:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise UsageError(f"{place} is not of the type 'function'")
    if not _named(function):
        raise UsageError(f"{place}.function.name must be 1 to 64 letters, digits or _ . : / -")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise UsageError(f"{place}.function.parameters is not a JSON schema")
    return {
        "type": "function",
        "function": {
            **function,
            "description": str(function.get("description") or ""),
            "parameters": _schema(parameters) if parameters else None,
        },
    }


def _schema(schema: Any) -> Any:
    """A JSON schema with one type per value: `["string", "null"]` is a string that may be null."""
    if isinstance(schema, list):
        return [_schema(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _schema(value) for key, value in schema.items()}
    kinds = plain.get("type")
    if isinstance(kinds, list) and kinds and all(isinstance(kind, str) for kind in kinds):
        named = [kind for kind in kinds if kind != "null"]
        plain["type"] = (named or kinds)[0]
        if len(named) < len(kinds):
            plain["nullable"] = True
    return plain
