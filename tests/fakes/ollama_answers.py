"""How the tests' Ollama answers: over its own API, and over the OpenAI face that hides what goes wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes.ollama_children import Child, Words
from tests.fakes.ollama_library import ServerGoneError
from tests.fakes.ollama_shelf import Refused, stamp
from tests.fakes.ollama_wire import BROKEN, CENTURIES_S, JSON, KEPT_S, KINDS, NDJSON, SSE, STRINGS, Wire


@dataclass
class Said:
    """An answer on its way. `waited_ns`: for the request before."""

    body: dict[str, Any]
    kind: str
    child: Child
    words: Words
    load_ns: int
    waited_ns: int
    shape: Callable[[str], dict[str, Any]]


class Answers(Wire):
    """Requests for text."""

    # ---- Answering

    def _generate(self) -> None:
        body = self._checked("GenerateRequest")
        prompt, options = body.get("prompt") or "", body.get("options") or {}
        if not prompt:
            self._loading(body, {"response": ""})
            return
        kind = "raw" if body.get("raw") else "chat"
        shape: Callable[[str], dict[str, Any]] = lambda text: {"response": text}  # noqa: E731
        self._answer(body, kind, prompt, options, shape)

    def _chat(self) -> None:
        body = self._checked("ChatRequest")
        messages, options = body.get("messages") or [], body.get("options") or {}
        if not messages:
            self._loading(body, {"message": {"role": "assistant", "content": ""}})
            return

        def shape(text: str) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": text}}

        prompt = "".join(str(message.get("content")) for message in messages)
        self._answer(body, "chat", prompt, options, shape)

    def _checked(self, request: str) -> dict[str, Any]:
        body = self._body()
        for name in STRINGS[request]:
            if name in body and not isinstance(body[name], str):
                kind = KINDS.get(type(body[name]), "value")
                field_name = f"{request}.{name}"
                text = f"json: cannot unmarshal {kind} into Go struct field {field_name} of type string"
                raise Refused(text, early=True)
        self.ollama.library.manifest(body.get("model") or "")
        return body

    def _loading(self, body: dict[str, Any], empty: dict[str, Any]) -> None:
        """Without a prompt: load, or unload."""
        children, name = self.ollama.children, body["model"]
        with self.ollama.turn:
            if body.get("keep_alive") == 0:
                children.unload(name)
                reason = "unload"
            else:
                try:
                    children.child(name, body.get("options") or {}, self._until(body), self._still_there)
                finally:
                    self.ollama.flush_log()
                reason = "load"
        self._json(200, self._head(name) | empty | {"done": True, "done_reason": reason})

    def _head(self, name: str) -> dict[str, Any]:
        return {"model": name, "created_at": stamp(datetime.now(UTC))}

    def _until(self, body: dict[str, Any]) -> float:
        keep = body.get("keep_alive")
        seconds = KEPT_S if not isinstance(keep, int | float) else CENTURIES_S if keep < 0 else float(keep)
        return min(time.time() + seconds, 1e10)

    def _answer(
        self, body: dict[str, Any], kind: str, prompt: str, options: dict[str, Any], shape: Callable[[str], Any]
    ) -> None:
        ollama, name, since = self.ollama, body["model"], time.perf_counter_ns()
        with ollama.turn:
            waited = time.perf_counter_ns() - since
            try:
                before = ollama.children.started
                child, load_ns = ollama.children.child(name, options, self._until(body), self._still_there)
                if ollama.children.started > before:
                    load_ns += waited
                words = ollama.children.words(kind, prompt, options, body)
                self._said(Said(body, kind, child, words, load_ns, waited, shape))
                if body.get("keep_alive") == 0:
                    ollama.children.unload(name)
            finally:
                ollama.flush_log()

    def _said(self, said: Said) -> None:
        head, words = self._head(said.body["model"]), said.words
        streamed = said.body.get("stream") is not False
        if streamed:
            self._begin(NDJSON)

        def say(text: str) -> None:
            self._line(head | said.shape(text) | {"done": False})

        if not self._spoken(said.child, words, say, streamed=streamed):
            if not streamed:
                raise Refused(BROKEN, 500)
            self._line({"error": BROKEN})
        elif not words.reason:
            # It gives up, and says so by saying nothing.
            if not streamed:
                self._json(200, head | said.shape("".join(words.tokens)) | {"done": False})
        elif streamed:
            self._line(self._last(said, ""))
        else:
            self._json(200, self._last(said, "".join(words.tokens)))
        if streamed:
            self._end()

    def _last(self, said: Said, text: str) -> dict[str, Any]:
        """The object that ends an answer. Go leaves zeros out."""
        words, spent = said.words, self.ollama.children.account(said.child, said.words)
        self.ollama.flush_log()
        last = self._head(said.body["model"]) | said.shape(text) | {"done": True, "done_reason": words.reason}
        if said.kind == "chat" and "response" in last:
            last["context"] = list(range(words.prompt + len(words.tokens) + 1))
        counters = {
            "total_duration": max(said.load_ns, said.waited_ns) + spent + 4_000_000, "load_duration": said.load_ns,
            "prompt_eval_count": words.prompt, "prompt_eval_duration": 2_000_000,
            "eval_count": len(words.tokens), "eval_duration": spent,
        }  # fmt: skip
        last |= {name: value for name, value in counters.items() if value}
        if said.body.get("logprobs"):
            last["logprobs"] = self._logprobs(said.child, words, int(said.body.get("top_logprobs") or 0))
        return last

    def _spoken(self, child: Child, words: Words, say: Callable[[str], None], *, streamed: bool) -> bool:
        """Send the pieces, one by one; whether the child lived to the end."""
        ollama = self.ollama
        for number, token in enumerate(words.tokens):
            if ollama.children.dies_at is not None and number >= ollama.children.dies_at:
                ollama.children.dies_at = None
                child.alive = False
                return False
            if streamed:
                self._cut(number)
                say(token)
            if ollama.pace_s:
                time.sleep(ollama.pace_s)
        return True

    def _cut(self, number: int) -> None:
        """Break off here, if that is what was asked for."""
        ollama = self.ollama
        if ollama.ends_at is not None and number >= ollama.ends_at:
            raise ServerGoneError
        if ollama.cut_line_at is not None and number >= ollama.cut_line_at:
            ollama.cut_line_at = None
            self._chunk('{"model":"toy","created_at":"2026-')
            self._end()
            raise BrokenPipeError

    def _logprobs(self, child: Child, words: Words, top: int) -> list[dict[str, Any]]:
        found = words.logprobs.get(top, [])[: len(words.tokens)]
        return found[:1] if child.drafter else found  # with a drafter they are incomplete

    # ---- The OpenAI face

    def _v1_chat(self) -> None:
        body = self._body()
        for field_name, kind, named in (
            ("messages", list, "[]openai.Message"),
            ("temperature", (int, float), "float64"),
            ("max_tokens", int, "int"),
        ):
            if body.get(field_name) is not None and not isinstance(body[field_name], kind):
                place = f"ChatCompletionRequest.{field_name} of type {named}"
                raise Refused(f"json: cannot unmarshal string into Go struct field {place}", 400)
        if not body.get("messages"):
            raise Refused("[] is too short - 'messages'", 400)
        contents = [message.get("content") for message in body["messages"]]
        if any(isinstance(content, int | float) for content in contents):
            raise Refused("invalid message content type: float64", 400)
        prompt = "".join(map(str, contents))
        self._v1(body, prompt, "chatcmpl-293", "chat.completion")

    def _v1_completions(self) -> None:
        body = self._body()
        self._v1(body, str(body.get("prompt")), "cmpl-839", "text_completion")

    def _v1(self, body: dict[str, Any], prompt: str, number: str, what: str) -> None:
        ollama, name = self.ollama, body.get("model") or ""
        options = {"temperature": body.get("temperature")} | (
            {"num_predict": body["max_tokens"]} if "max_tokens" in body else {}
        )
        options = {key: value for key, value in options.items() if value is not None}
        with ollama.turn:
            try:
                child, _ = ollama.children.child(name, options, time.time() + KEPT_S)
                words = ollama.children.words("chat", prompt, options, {}).until(body.get("stop"))
                head = {
                    "id": number, "object": what, "created": int(time.time()), "model": name,
                    "system_fingerprint": "fp_ollama",
                }  # fmt: skip
                if body.get("stream"):
                    self._v1_stream(body, child, words, head, chat=what != "text_completion")
                else:
                    self._v1_whole(child, words, head, chat=what != "text_completion")
            finally:
                ollama.flush_log()

    def _v1_whole(self, child: Child, words: Words, head: dict[str, Any], *, chat: bool) -> None:
        if not self._spoken(child, words, lambda _: None, streamed=False):
            raise Refused(BROKEN, 500)
        self.ollama.children.account(child, words)
        text = "".join(words.tokens)
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": words.reason or None}
        self._json(200, head | {"choices": [choice], "usage": _usage(words)}, JSON, "\n")

    def _v1_stream(self, body: dict[str, Any], child: Child, words: Words, head: dict[str, Any], *, chat: bool) -> None:
        self._begin(SSE)
        head |= {"object": "chat.completion.chunk"} if chat else {}
        first = {"role": "assistant"}

        def said(text: str) -> dict[str, Any]:
            delta = {"delta": {**first, "content": text}} if chat else {"text": text}
            first.clear()
            return {"choices": [{"index": 0, **delta, "finish_reason": None}]}

        def event(document: dict[str, Any]) -> None:
            self._chunk(f"data: {json.dumps(head | document, separators=(',', ':'), ensure_ascii=False)}\n\n")

        if not self._spoken(child, words, lambda text: event(said(text)), streamed=True):
            # Over this API nothing tells that the child has died.
            event({"model": ""} | said(""))
            self._end()
            return
        if words.reason:
            self.ollama.children.account(child, words)
            last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
            event({"choices": [{"index": 0, **last, "finish_reason": words.reason}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                event({"choices": [], "usage": _usage(words)})
            self._chunk("data: [DONE]\n\n")
        self._end()


def _usage(words: Words) -> dict[str, int]:
    count = len(words.tokens)
    return {"prompt_tokens": words.prompt, "completion_tokens": count, "total_tokens": words.prompt + count}
