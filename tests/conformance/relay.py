"""A sound backend whose servers are threads of this process, in front of engines that run already."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import msgspec

from advisor.machine import Availability
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Stats, Watch
from backends.native import Native


class Handler(BaseHTTPRequestHandler):
    """Passes a request on and its reply back, as its backend changes them."""

    relay: Relay
    upstream: str
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        with httpx.Client(trust_env=False) as http:
            reply = http.get(self.upstream + self.path)
        self._whole(reply.status_code, self.relay.listed(reply.content))

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        asked = self.relay.asked(sent)
        headers = {"Content-Type": "application/json"}
        with (
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
            self.relay.turn,
            httpx.Client(trust_env=False, timeout=60) as http,
            http.stream("POST", self.upstream + self.path, content=asked, headers=headers) as reply,
        ):
            if not reply.headers["content-type"].startswith("text/event-stream"):
                self._whole(*self.relay.replied(reply.status_code, reply.read(), sent))
                return
            self._head(200, reply.headers["content-type"])
            self.relay.written(self.relay.streamed(reply.iter_lines()), self.wfile.write)

    def _whole(self, status: int, content: bytes) -> None:
        self._head(status, "application/json")
        self.wfile.write(content)

    def _head(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


class Relay(Backend):
    """Keeps every rule. Its servers are threads of this process, in front of engines that tests share."""

    name = "relay"
    upstreams: ClassVar[dict[bool, Endpoint]] = {}
    servers: ClassVar[dict[str, tuple[ThreadingHTTPServer, Endpoint]]] = {}
    turn: Any = contextlib.nullcontext()

    def detect(self) -> Availability:
        return Availability(name=self.name, available=True, drafter=True)

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        return LaunchPlan(backend=self.name, model=model, options=options, command="relay")

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        from advisor.files import gguf  # it imports numpy

        gguf.pair(plan.model.target, plan.model.drafter)
        upstream = self.upstreams[plan.model.drafter is not None]
        base = upstream.base_url.removesuffix("/v1")
        handler = type("Bound", (Handler,), {"relay": self, "upstream": base})
        server = ThreadingHTTPServer((plan.options.host, plan.options.port), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = msgspec.structs.replace(
            upstream, base_url=f"http://127.0.0.1:{server.server_port}/v1", pid=None, backend=self.name
        )
        self.servers[endpoint.base_url] = (server, upstream)
        return endpoint

    def stats(self, endpoint: Endpoint) -> Stats:
        return Native().stats(self.servers[endpoint.base_url][1])

    def stop(self, endpoint: Endpoint) -> None:
        server, _ = self.servers.pop(endpoint.base_url, (None, None))
        if server:
            server.shutdown()
            server.server_close()

    # ---- What goes through

    def asked(self, body: bytes) -> bytes:
        return body

    def listed(self, content: bytes) -> bytes:
        return content

    def replied(self, status: int, content: bytes, body: bytes) -> tuple[int, bytes]:
        return status, content

    def streamed(self, lines: Iterable[str]) -> Iterable[str]:
        return lines

    def written(self, lines: Iterable[str], write: Callable[[bytes], Any]) -> None:
        for line in lines:
            write(line.encode() + b"\n")
