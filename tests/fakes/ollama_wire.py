"""What the tests' Ollama sends and reads: the server's settings, and HTTP as Ollama speaks it."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.ollama_children import Children
from tests.fakes.ollama_library import Library
from tests.fakes.ollama_shelf import Refused

UTF8 = "application/json; charset=utf-8"
JSON, NDJSON, SSE, PLAIN = "application/json", "application/x-ndjson", "text/event-stream", "text/plain"
BROKEN = "an error was encountered while running the model: unexpected EOF"
KEPT_S = 300.0
CENTURIES_S = 1e10
STRINGS = {"GenerateRequest": ("prompt", "system", "template"), "ChatRequest": ("model",)}
KINDS = {int: "number", float: "number", list: "array", dict: "object", bool: "bool"}


V1_TYPES = {400: "invalid_request_error", 404: "not_found_error", 500: "api_error"}


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


class Wire(BaseHTTPRequestHandler):
    """One request on its way in and out. `ollama` is set by `serve`, in a subclass of its own."""

    ollama: Ollama
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _route(self) -> None:
        raise NotImplementedError

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_DELETE(self) -> None:
        self._route()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that goes away is nobody's fault
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def handle_expect_100(self) -> bool:
        return True  # said when the body is read: what is refused, or there already, is answered without it

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

    def _still_there(self) -> None:
        """Whether the client still listens."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise BrokenPipeError

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
