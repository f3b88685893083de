"""A local server that answers as the Hugging Face Hub does, and can be told to misbehave.

It serves `/api/models/{repo}`, `/{repo}/resolve/{revision}/{file}` with a redirect to `/blobs/{sha256}` as the Hub does
to its content network, ranges, ETags and LFS sizes. `faults` are taken one per request for bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 64 << 10


@dataclass
class Fault:
    """One bad answer. `cut`: the connection is dropped after so many bytes. `stall`: seconds of silence after them.
    `status`: this status instead of the bytes, with `headers`. `garble`: one bit is wrong. `ignore_range`: all is sent,
    whatever was asked for."""

    cut: int | None = None
    stall: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    garble: bool = False
    ignore_range: bool = False


@dataclass
class Hub:
    """What the server holds and how it behaves. `token`: needed to read anything, if set. `asked`: bytes sent per blob
    request, as (begin, sent). `tokens`: for each host that was asked, the tokens that came."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str = ""
    api_fault: Fault | None = None
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    bytes_per_s: int = 0
    url: str = ""

    def add(self, repo: str, **files: bytes) -> None:
        self.repos.setdefault(repo, {}).update(files)

    def blob(self, sha256: str) -> bytes | None:
        for files in self.repos.values():
            for data in files.values():
                if hashlib.sha256(data).hexdigest() == sha256:
                    return data
        return None


@contextlib.contextmanager
def serve(hub: Hub | None = None) -> Iterator[Hub]:
    """A Hub on a free port of the loopback address."""
    made = hub or Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": made}))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """One request. `hub` is set by `serve`, in a subclass of its own."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        host = self.headers.get("Host", "").partition(":")[0]
        self.hub.tokens.setdefault(host, set()).add(self.headers.get("Authorization", ""))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if match := re.fullmatch(r"/blobs/([0-9a-f]{64})", path):
                self._blob(match[1], body=body)
            elif self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                self._plain(401, {"X-Error-Code": "GatedRepo"})
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.*)?", path):
                self._listing(match[1])
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self._resolve(match[1], match[2])
            else:
                self._plain(404, {})

    def _plain(self, status: int, headers: dict[str, str], data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _listing(self, repo: str) -> None:
        if self.hub.api_fault is not None:
            self._plain(self.hub.api_fault.status, self.hub.api_fault.headers)
        elif repo not in self.hub.repos:
            self._plain(404, {"X-Error-Code": "RepoNotFound"})
        else:
            siblings = [
                {
                    "rfilename": name,
                    "size": len(data),
                    "blobId": "0" * 40,
                    "lfs": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 135},
                }
                for name, data in self.hub.repos[repo].items()
            ]
            document = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "tags": []}
            self._plain(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _resolve(self, repo: str, name: str) -> None:
        data = self.hub.repos.get(repo, {}).get(name)
        if data is None:
            self._plain(404, {"X-Error-Code": "EntryNotFound"})
            return
        digest = hashlib.sha256(data).hexdigest()
        headers = {
            "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/blobs/{digest}",
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
            "ETag": f'"{digest}"',
        }
        self._plain(302, headers)

    def _blob(self, digest: str, *, body: bool) -> None:
        data = self.hub.blob(digest)
        if data is None:
            self._plain(404, {})
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        # A look at the header names its end; a download does not.
        looks = bool(match and match[2])
        fault = self.hub.faults.pop(0) if self.hub.faults and body and not looks else Fault()
        if fault.status:
            self._plain(fault.status, fault.headers)
            return
        begin, end = 0, len(data)
        if match and not fault.ignore_range:
            begin, end = int(match[1]), min(int(match[2]) + 1 if match[2] else len(data), len(data))
        part = data[begin:end]
        if fault.garble:
            part = part[:-1] + bytes([part[-1] ^ 1])
        self.send_response(206 if match and not fault.ignore_range else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{digest}"')
        if match:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.end_headers()
        if body:
            self._send(part, begin, fault, looks=looks)

    def _send(self, part: bytes, begin: int, fault: Fault, *, looks: bool) -> None:
        last = len(part) if fault.cut is None else min(fault.cut, len(part))
        sent = 0
        while sent < last:
            piece = part[sent : min(sent + CHUNK, last)]
            self.wfile.write(piece)
            self.wfile.flush()
            sent += len(piece)
            if self.hub.bytes_per_s:
                time.sleep(len(piece) / self.hub.bytes_per_s)
        if not looks:
            self.hub.asked.append((begin, sent))
        if fault.stall:
            time.sleep(fault.stall)
        if last < len(part):
            self.close_connection = True
            self.connection.close()
