"""Prompts: messages through the model's own chat template, and text, into tokens.

The template comes out of a model file, so it is a stranger's program: it runs in jinja2's sandbox, on plain data.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from advisor.errors import UsageError
from backends.native.library import Model


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now(datetime.UTC).strftime(form)


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class Prompt:
    """Makes prompts for one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._begin = model.special("bos")
        self._names = {"bos_token": self._begin, "eos_token": model.special("eos")}
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals.update(raise_exception=_raise, strftime_now=_now)
        environment.filters["tojson"] = _json
        text = model.chat_template()
        self._template = environment.from_string(text) if text else None

    def chat(self, messages: Sequence[Mapping[str, Any]], *, thinking: bool = False) -> list[int]:
        """Tokens of a conversation, ready for the model's turn.

        Args:
            messages: `role` and `content` each; content is text, or a list of `{"type": "text", "text": ...}`.

        Raises:
            UsageError: the file has no template, or the template refuses the messages.
        """
        if self._template is None:
            raise UsageError(
                f"{self._model.path} has no chat template", hint="send plain text instead (--raw, or /v1/completions)"
            )
        plain = [{**message, "content": _text(message.get("content"))} for message in messages]
        if not plain:
            raise UsageError("there are no messages")
        try:
            text = self._template.render(
                messages=plain, add_generation_prompt=True, enable_thinking=thinking, tools=None, **self._names
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UsageError(f"the model's chat template refuses these messages: {error}") from error
        written = bool(self._begin) and text.startswith(self._begin)
        return self._model.tokenize(text, special=True, begin=not written)

    def plain(self, text: str) -> list[int]:
        """Tokens of `text` as it is, after the token that begins every text."""
        return self._model.tokenize(text, special=True, begin=True)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise UsageError("a message's content must be text: this engine reads no images or sounds")
    return "\n".join(map(str, texts))
