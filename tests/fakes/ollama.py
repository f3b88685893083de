"""A server that answers as Ollama does, replaying and generalising what was recorded from a real one.

`Ollama` is what a test turns: the library, the children and the faults. `serve` runs it on a free port.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.ollama_children import Child, Children, Words
from tests.fakes.ollama_library import Library, Refused, ServerGoneError, stamp

UTF8 = "application/json; charset=utf-8"
JSON, NDJSON, SSE, PLAIN = "application/json", "application/x-ndjson", "text/event-stream", "text/plain"
BROKEN = "an error was encountered while running the model: unexpected EOF"
KEPT_S = 300.0
CENTURIES_S = 1e10
STRINGS = {"GenerateRequest": ("prompt", "system", "template"), "ChatRequest": ("model",)}
KINDS = {int: "number", float: "number", list: "array", dict: "object", bool: "bool"}


@dataclass
class Ollama:
    """One server. `version`: what it calls itself. `log`: the file that its log goes to. `cut_line_at`: pieces after
    which a stream breaks off in the middle of a line. `ends_at`: pieces after which the whole server goes. `extra`:
    more fields in every object that it sends. `pace_s`: between two pieces."""

    library: Library = field(default_factory=Library)
    version: str = "0.32.15"
    log: Path | None = None
    cut_line_at: int | None = None
    ends_at: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    pace_s: float = 0.0
    url: str = ""
    requests: list[str] = field(default_factory=list)
    bodies: list[tuple[str, Any]] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.children = Children(self.library)
        self.turn = threading.Lock()

    def flush_log(self) -> None:
        """Append what was logged since."""
        if self.log is not None and self.children.log:
            with self.log.open("a", encoding="utf-8") as file:
                file.write("\n".join(self.children.log) + "\n")
        self.children.log.clear()

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def asked(self, request: str) -> int:
        """How often something was asked for."""
        return sum(each == request for each in self.requests)


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


@contextlib.contextmanager
def serve(made: Ollama | None = None, *, port: int = 0) -> Iterator[Ollama]:
    """A server on a port of the loopback address, a free one by default."""
    ollama = made or Ollama()
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"ollama": ollama}))
    server.daemon_threads = True
    ollama.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    closed = threading.Event()

    def stop() -> None:
        if not closed.is_set():
            closed.set()
            server.shutdown()
            server.server_close()

    ollama.stop = stop
    thread.start()
    try:
        yield ollama
    finally:
        stop()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """One request. `ollama` is set by `serve`, in a subclass of its own."""

    ollama: Ollama
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_DELETE(self) -> None:
        self._route()

    def handle_expect_100(self) -> bool:
        return True  # said when the body is read: what is refused, or there already, is answered without it

    # ---- Routing

    def _route(self) -> None:
        path = urlsplit(self.path).path
        self.ollama.requests.append(f"{self.command} {path}")
        v1 = path.startswith("/v1/")
        try:
            if path.startswith("/api/blobs/"):
                self._blob(path.removeprefix("/api/blobs/"))
                return
            known = self._methods(path)
            if not known:
                self._text(404, "404 page not found")
            elif self.command not in known:
                self.close_connection = True
                self._text(405, "405 method not allowed", Allow=", ".join(known))
            else:
                known[self.command]()
        except Refused as refused:
            self._refuse(refused, v1=v1)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except ServerGoneError:
            self._vanish()

    def _methods(self, path: str) -> dict[str, Callable[[], None]]:
        def told(document: Callable[[], Any]) -> Callable[[], None]:
            return lambda: self._json(200, document())

        posts = {
            "/api/show": self._show, "/api/create": self._create, "/api/pull": self._pull,
            "/api/generate": self._generate, "/api/chat": self._chat, "/api/copy": self._copy,
            "/v1/chat/completions": self._v1_chat, "/v1/completions": self._v1_completions,
        }  # fmt: skip
        gets = {
            "/api/version": told(lambda: {"version": self.ollama.version}),
            "/api/status": told(lambda: {"cloud": {"disabled": False, "source": "none"}}),
            "/api/tags": told(self._tags),
            "/api/ps": told(self._ps),
            "/v1/models": self._v1_models,
        }
        if path == "/":
            root = lambda: self._text(200, "Ollama is running", charset=True)  # noqa: E731
            return {"GET": root, "HEAD": root}
        if path == "/api/delete":
            return {"DELETE": self._delete}
        if path.startswith("/v1/models/"):
            return {"GET": lambda: self._v1_model(path.removeprefix("/v1/models/"))}
        if path in posts:
            return {"POST": posts[path]}
        return {"GET": gets[path], "HEAD": gets[path]} if path in gets else {}

    # ---- Sending

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _text(self, status: int, text: str, *, charset: bool = False, **headers: str) -> None:
        self._send(status, text.encode(), {"Content-Type": PLAIN + ("; charset=utf-8" if charset else ""), **headers})

    def _json(self, status: int, document: Any, kind: str = UTF8, end: str = "") -> None:
        if isinstance(document, dict):
            document = document | self.ollama.extra
        data = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        self._send(status, (data + end).encode(), {"Content-Type": kind})

    def _refuse(self, refused: Refused, *, v1: bool = False) -> None:
        if v1:
            error = {"message": refused.text, "type": V1_TYPES[refused.status], "param": None, "code": None}
            kind = UTF8 if refused.early else JSON
            self._json(refused.status, {"error": error}, kind, "" if refused.early else "\n")
            return
        self._json(refused.status, {"error": refused.text}, JSON if refused.plain else UTF8)

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _line(self, document: dict[str, Any]) -> None:
        text = json.dumps(document | self.ollama.extra, separators=(",", ":"), ensure_ascii=False)
        self._chunk(text + "\n")

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _vanish(self) -> None:
        """The server ends without a word."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)
        threading.Thread(target=self.ollama.stop, daemon=True).start()

    # ---- Reading

    def _body(self) -> dict[str, Any]:
        data = self._bytes()
        if not data.strip():
            raise Refused("missing request body", early=True)
        try:
            found = json.loads(data)
        except ValueError:
            raise Refused("unexpected EOF", early=True) from None
        self.ollama.bodies.append((urlsplit(self.path).path, found))
        return found if isinstance(found, dict) else {}

    def _bytes(self) -> bytes:
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # ---- What is there

    def _tags(self) -> dict[str, Any]:
        library = self.ollama.library
        return {"models": [library.tag(name, manifest) for name, manifest in library.models.items()]}

    def _ps(self) -> dict[str, Any]:
        def listed(child: Child) -> dict[str, Any]:
            expires = datetime.fromtimestamp(child.expires, UTC)
            return {
                "name": child.name, "model": child.name, "size": child.size, "digest": child.digest,
                "details": child.details, "expires_at": stamp(expires), "size_vram": 0,
                "context_length": child.context,
            }  # fmt: skip

        return {"models": [listed(child) for child in self.ollama.children.listed()]}

    def _show(self) -> None:
        body = self._body()
        name = body.get("model") or body.get("name")
        if not name:
            raise Refused("model is required")
        self._json(200, self.ollama.library.show(name, verbose=bool(body.get("verbose"))))

    def _v1_models(self) -> None:
        entries = [self._v1_entry(name) for name in self.ollama.library.models]
        self._json(200, {"object": "list", "data": entries or None}, JSON, "\n")

    def _v1_entry(self, name: str) -> dict[str, Any]:
        created = int(self.ollama.library.manifest(name).modified.timestamp())
        return {"id": name, "object": "model", "created": created, "owned_by": "library"}

    def _v1_model(self, name: str) -> None:
        self._json(200, self._v1_entry(name), JSON, "\n")

    # ---- Getting things there

    def _blob(self, digest: str) -> None:
        library = self.ollama.library
        library.check_digest(digest)
        if self.command == "HEAD":
            if digest not in library.blobs:
                raise Refused(f"stat <models>/blobs/{digest.replace(':', '-')}: no such file or directory", 404)
            self._bare(200)
        elif digest in library.blobs:
            # It answers without reading: whoever is still writing finds the pipe broken.
            self.close_connection = True
            self._send(200, b"", {"Connection": "close"})
        else:
            wanted = int(self.headers.get("Content-Length") or -1)
            data = self._bytes()
            if 0 <= len(data) < wanted:
                return  # the client has gone: nothing is kept
            library.take_blob(digest, data)
            self._send(201, b"", {})

    def _bare(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def _create(self) -> None:
        body = self._body()
        steps = self.ollama.library.create(body)
        if body.get("stream") is False:
            try:
                *_, last = steps
            except Refused as refused:
                refused.plain = not refused.early or refused.plain
                raise
            self._json(200, {"status": last}, JSON)
            return
        self._stream({"status": step} for step in self._begun(steps))

    def _begun(self, steps: Iterator[Any]) -> Iterator[Any]:
        """The steps, once the first one was made: what it refuses is refused before the stream."""
        first: list[Any] = []
        with contextlib.suppress(StopIteration):
            try:
                first.append(next(steps))
            except Refused as refused:
                if refused.early:
                    raise
                first.append(refused)

        def all_of_them() -> Iterator[Any]:
            for each in first:
                if isinstance(each, Refused):
                    raise each
                yield each
            yield from steps

        return all_of_them()

    def _stream(self, lines: Iterator[dict[str, Any]]) -> None:
        self._begin(NDJSON)
        try:
            for line in lines:
                self._line(line)
                self._still_there()
        except Refused as refused:
            self._line({"error": refused.text})
        self._end()

    def _still_there(self) -> None:
        """Whether the client still listens."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise BrokenPipeError

    def _pull(self) -> None:
        body = self._body()
        tag = body.get("model") or body.get("name")
        if not tag:
            raise Refused("invalid model name")
        steps = self.ollama.library.pull(tag)
        if body.get("stream") is False:
            try:
                *_, last = steps
            except Refused as refused:
                refused.plain = True
                raise
            self._json(200, last, JSON)
            return
        self._stream(steps)

    def _copy(self) -> None:
        body = self._body()
        self.ollama.library.copy(body["source"], body["destination"])
        self._send(200, b"", {})

    def _delete(self) -> None:
        name = self._body().get("model")
        if not name:
            raise Refused("model is required")
        self.ollama.library.delete(name)
        self._send(200, b"", {})

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
                    children.child(name, body.get("options") or {}, self._until(body))
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
                child, load_ns = ollama.children.child(name, options, self._until(body))
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


V1_TYPES = {400: "invalid_request_error", 404: "not_found_error", 500: "api_error"}


def _usage(words: Words) -> dict[str, int]:
    count = len(words.tokens)
    return {"prompt_tokens": words.prompt, "completion_tokens": count, "total_tokens": words.prompt + count}
