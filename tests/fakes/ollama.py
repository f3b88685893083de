"""A server that answers as Ollama does, replaying and generalising what was recorded from a real one.

`Ollama` is what a test turns: the library, the children and the faults. `serve` runs it on a free port.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.ollama_answers import Answers
from tests.fakes.ollama_children import Child
from tests.fakes.ollama_library import ServerGoneError
from tests.fakes.ollama_shelf import Refused, stamp
from tests.fakes.ollama_wire import JSON, NDJSON, Ollama


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


class Handler(Answers):
    """All that can be asked."""

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


__all__ = ["Handler", "Ollama", "serve"]
