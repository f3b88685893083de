"""Ollama's own API behind the client that all backends share: its OpenAI face hides counters, and errors in the middle
of an answer."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advisor.errors import UsageError
from advisor.running.client import Client, Done, Text, Timings
from backends.base import Endpoint
from backends.ollama import log
from backends.ollama.api import Api
from backends.ollama.serving import rate

OPTIONS = {
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "draft_tokens": "draft_num_predict",
    **{
        name: name
        for name in (
            "temperature", "top_p", "top_k", "min_p", "seed", "stop",
            "presence_penalty", "frequency_penalty", "repeat_penalty",
        )
    },
}  # fmt: skip
"""OpenAI's names for what Ollama calls options."""
PLAIN = {"tools", "logprobs", "top_logprobs"}
"""Fields of the same name and meaning."""


class OllamaClient(Client):
    """Talks to one model of an Ollama server.

    Args:
        endpoint: the model's.
        api: of its server; closed with the client.
    """

    counts_live = False

    def __init__(self, endpoint: Endpoint, api: Api) -> None:
        super().__init__(endpoint.base_url, endpoint.model)
        self._api = api
        self._drafts = endpoint.drafter
        self._takes: tuple[str, ...] | None = None

    def close(self) -> None:
        self._api.close()
        super().close()

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Iterator[Text | Done]:
        """As `Client.chat`. Images and sounds go along where the model takes them."""
        told = [self._message(message) for message in messages]
        request = _request(options)
        return self._counted(lambda: self._api.chat(self._model, messages=told, **request))

    def complete(self, prompt: str, **options: Any) -> Iterator[Text | Done]:
        """As `Client.complete`: without the chat template."""
        request = _request(options)
        return self._counted(lambda: self._api.generate(self._model, prompt=prompt, raw=True, **request))

    def _counted(self, ask: Any) -> Iterator[Text | Done]:
        found = log.find(self._api.where) if self._drafts else None
        mark = found.mark() if found else None
        for said in ask():
            message = said.get("message") or said
            if thought := message.get("thinking"):
                yield Text(text=thought, thought=True)
            if text := message.get("content") or message.get("response"):
                yield Text(text=text)
            if said.get("done"):
                told = log.counted(found.settled(mark)) if found and mark else None
                yield Done(reason=said.get("done_reason") or "stop", timings=_timings(said, told))
                return

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """An OpenAI message as Ollama's: its parts are texts, and pictures or sounds in base64."""
        content = message.get("content")
        if not isinstance(content, list):
            return dict(message)
        texts, media = [], []
        for part in content:
            kind = part.get("type")
            if kind == "text":
                texts.append(part["text"])
            elif kind == "image_url":
                media.append(_inline(part["image_url"]["url"]))
                self._must_take("vision", "images")
            elif kind == "input_audio":
                media.append(_bytes(part["input_audio"]["data"]))
                self._must_take("audio", "audio")
            else:
                raise UsageError(f"Ollama takes no part of the kind {kind!r} in a message")
        return {**message, "content": "\n".join(texts), "images": media}

    def _must_take(self, what: str, words: str) -> None:
        if self._takes is None:
            self._takes = self._api.show(self._model).takes
        if what not in self._takes:
            raise UsageError(
                f"{self._model} takes no {words} in Ollama", hint="llama.cpp takes them", command="advisor backends"
            )


def _inline(url: str) -> bytes:
    head, found, data = url.partition(";base64,")
    if not found or not head.startswith("data:"):
        raise UsageError("a picture must be given inline, as a data: URL", hint="advisor fetches nothing for others")
    return _bytes(data)


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise UsageError("a picture or a sound is not in base64") from None


def _request(options: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's fields as Ollama's.

    Raises:
        UsageError: one that Ollama does not have: it would drop it in silence.
    """
    given = {name: value for name, value in options.items() if value is not None}
    request: dict[str, Any] = {name: given.pop(name) for name in tuple(given) if name in PLAIN}
    chosen = {OPTIONS[name]: given.pop(name) for name in tuple(given) if name in OPTIONS}
    think = (given.pop("chat_template_kwargs", None) or {}).get("enable_thinking")
    if (effort := given.pop("reasoning_effort", None)) is not None:
        think = effort not in ("none", "off")
    if (form := given.pop("response_format", None)) is not None:
        request["format"] = (form.get("json_schema") or {}).get("schema") or "json"
    if given:
        raise UsageError(f"Ollama knows no option {min(given)!r}", hint=f"it knows {', '.join(sorted(OPTIONS))}")
    if chosen.get("draft_num_predict") == "auto":
        del chosen["draft_num_predict"]
    return request | ({} if think is None else {"think": think}) | ({"options": chosen} if chosen else {})


def _timings(said: Mapping[str, Any], told: log.Counted | None) -> Timings:
    """Counters of the last object, and drafts as the log counts them: of this request, if it was alone."""
    alone = told is not None and told.answers == 1 and told.rounds_told == 1
    prompt, answered = said.get("prompt_eval_count"), said.get("eval_count")
    return Timings(
        prompt_n=prompt or 0,
        prompt_per_second=rate(prompt, said.get("prompt_eval_duration")),
        predicted_n=answered or 0,
        predicted_per_second=rate(answered, said.get("eval_duration")),
        draft_n=told.drafted if told and alone else None,
        draft_n_accepted=told.accepted if told and alone else None,
        accepted_per_position=told.positions if told and alone else (),
    )
