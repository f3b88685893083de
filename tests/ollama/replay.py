"""Sends every recorded exchange to the tests' own server, in the order in which it was recorded."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.fakes import ollama_files as files
from tests.fakes.ollama import Ollama

NAMES = sorted(path.stem for path in files.RECORDINGS.glob("*.json"))
HEX = re.compile(r"[0-9a-f]{64}")
TIMES = ("created_at", "modified_at", "expires_at")
GREETING = {"temperature": 0, "num_predict": 40, "seed": 1}
FOX = "The quick brown fox"

OURS = {files.digest(kind).removeprefix("sha256:"): kind for kind in files.SIZES}


class Seen:
    """What one request brought. `lines`: of the body, as they came."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.text = body.decode()


class Replay:
    """All exchanges, one after another; `seen` by name. `extra`: what was looked at where it is no plain exchange."""

    def __init__(self, ollama: Ollama) -> None:
        self.ollama = ollama
        self.seen: dict[str, Seen] = {}
        self.extra: dict[str, Any] = {}

    def run(self) -> None:
        for name in ordered():
            for step in BEFORE.get(name, ()):
                step(self)
            if name in SPECIAL:
                SPECIAL[name](self, name)
            else:
                self.seen[name] = self.plain(name)

    # ---- Sending

    def plain(self, name: str) -> Seen:
        request = files.recording(name)["request"]
        return self.send(request["method"], request["path"], body_of(request), request.get("headers") or {})

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Seen:
        connection = http.client.HTTPConnection(self.ollama.host, timeout=60)
        try:
            connection.request(method, swapped(path), body, headers or {})
            reply = connection.getresponse()
            return Seen(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Seen:
        return self.send("POST", path, json.dumps(body).encode())

    def generate(self, model: str, **more: Any) -> dict[str, Any]:
        body = {"model": model, "prompt": FOX, "raw": True, "stream": False, "options": GREETING} | more
        found: dict[str, Any] = json.loads(self.post("/api/generate", body).text)
        return found

    def names(self) -> list[tuple[str, int]]:
        models = json.loads(self.send("GET", "/api/ps").text)["models"]
        return [(each["name"], each["size"]) for each in models]

    def raw(self, name: str) -> socket.socket:
        """A connection with the request on its way."""
        request = files.recording(name)["request"]
        body = body_of(request) or b""
        headers = {"Host": "x", "Content-Length": str(len(body))} | (request.get("headers") or {})
        host, port = self.ollama.host.split(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        lines = [f"{request['method']} {swapped(request['path'])} HTTP/1.1"]
        head = "\r\n".join([*lines, *(f"{key}: {value}" for key, value in headers.items()), "", ""])
        connection.sendall(head.encode())
        if "Expect" not in head:
            connection.sendall(body)
        return connection


def ordered() -> list[str]:
    """Names as they were recorded: by the server's clock, then by number."""
    return sorted(NAMES, key=lambda name: (AT.get(name) or _clock(name), name))


def _clock(name: str) -> str:
    headers = (files.recording(name).get("response") or {}).get("headers") or {}
    return str(headers["Date"])[17:25]


AT = {
    "033-blob-post-existing": "13:39:22", "033c-blob-post-existing-expect": "13:39:23",
    "080-on-disk-manifests": "13:39:30", "098-ps-while-loading": "13:40:37", "110-runner-sharing": "13:41:00",
    "111-queueing": "13:41:30", "190-create-cancel-at-once": "13:42:30",
    "191-create-cancel-after-first-line": "13:42:31", "300-server-log-lines": "13:59:00",
}  # fmt: skip
"""Those whose reply has no date."""


def body_of(request: dict[str, Any]) -> bytes | None:
    """The bytes of a request; files are ours."""
    if "body" in request:
        return swapped(json.dumps(request["body"])).encode()
    if "body_text" in request:
        return str(request["body_text"]).encode()
    if (described := request.get("body_binary")) is not None:
        kind = files.DIGESTS.get(described.get("sha256", ""))
        return files.content(kind) if kind else b""
    return None


def swapped(text: str) -> str:
    """A text with our files' digests for the recorded ones."""
    return HEX.sub(lambda match: digest_of(match[0]), text)


def digest_of(recorded: str) -> str:
    kind = files.DIGESTS.get(recorded)
    return files.digest(kind).removeprefix("sha256:") if kind else recorded


# ---- What has to happen before


def unload(model: str) -> Callable[[Replay], None]:
    return lambda replay: replay.post("/api/generate", {"model": model, "keep_alive": 0}) and None


def upload(kind: str) -> Callable[[Replay], None]:
    return lambda replay: replay.send("POST", f"/api/blobs/{files.digest(kind)}", files.content(kind)) and None


def delete(model: str) -> Callable[[Replay], None]:
    return lambda replay: replay.send("DELETE", "/api/delete", json.dumps({"model": model}).encode()) and None


def load(model: str) -> Callable[[Replay], None]:
    return lambda replay: replay.generate(model) and None


def create_random(replay: Replay) -> None:
    upload(files.RANDOM)(replay)
    drafter = {"drafter.gguf": files.digest(files.RANDOM)}
    replay.post("/api/create", {"model": "toy-rnd", "from": "toy", "draft_files": drafter,
                                "parameters": {"draft_num_predict": 3}})  # fmt: skip


def dies(pieces: int) -> Callable[[Replay], None]:
    return lambda replay: setattr(replay.ollama.children, "dies_at", pieces)


def dies_loading(replay: Replay) -> None:
    replay.ollama.children.dies_loading = True


BEFORE: dict[str, tuple[Callable[[Replay], None], ...]] = {
    "097-ps-after-unload": (unload("toy-mtp"),),
    "110-runner-sharing": (create_random, unload("toy")),
    "180-generate-child-killed": (dies(22),),
    "183-chat-child-killed": (dies(23),),
    "184-v1-chat-child-killed": (dies(13),),
    "185-generate-nostream-child-killed": (dies(100),),
    "186-load-child-killed": (dies_loading,),
    "193-create-dense": (upload(files.DENSE),),
    "201-delete-loaded": (load("dense-mtp"),),
    "209b-blob-head-after-last-delete": (delete("toy-mtp-two"),),
    "067c-create-draft-quantize-other": (upload(files.WRONG),),
}
"""What was done between two recorded exchanges, as far as the later one tells."""


# ---- What is no plain exchange


def existing(replay: Replay, name: str) -> None:
    """A client that writes to a server which does not read."""
    try:
        replay.raw(name).close()
        replay.extra[name] = "nothing"
    except OSError as error:
        replay.extra[name] = type(error).__name__


def expecting(replay: Replay, name: str) -> None:
    with replay.raw(name) as connection:
        replay.extra[name] = connection.recv(4096).decode()


def manifests(replay: Replay, name: str) -> None:
    library = replay.ollama.library
    replay.extra[name] = {
        model: {
            "layers": [layer.document() for layer in manifest.layers],
            "config": manifest.config,
            "config_size": len(manifest.config_bytes),
            "params": library.parameters(manifest),
        }
        for model, manifest in ((full.removesuffix(":latest"), each) for full, each in library.models.items())
    }


def while_loading(replay: Replay, name: str) -> None:
    unload("toy-mtp")(replay)
    replay.ollama.children.load_s = 0.3
    thread = threading.Thread(target=lambda: replay.generate("toy-mtp"))
    thread.start()
    polls = []
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        polls.append(replay.send("GET", "/api/ps").text)
        time.sleep(0.03)
    thread.join()
    replay.ollama.children.load_s = 0
    replay.extra[name] = polls
    unload("toy-mtp")(replay)


def sharing(replay: Replay, name: str) -> None:
    found = []
    for step in files.recording(name)["sequence"]:
        if "step" in step:
            unload(step["model"])(replay)
            continue
        mark = log_length(replay)
        started = replay.ollama.children.started
        reply = replay.generate(step["model"], options=step["options"])
        said = log_since(replay, mark)
        found.append({
            "new": replay.ollama.children.started > started,
            "drafter": re.findall(r"--spec-draft-model \S+sha256-([0-9a-f]{64})", said),
            "acceptance": re.findall(r"draft acceptance = .*", said),
            "response": reply["response"],
            "names": replay.names(),
        })  # fmt: skip
    replay.extra[name] = found


def queueing(replay: Replay, name: str) -> None:
    """Two requests at once, twice."""
    replay.ollama.pace_s = 0.0002
    found = {}
    load("toy-mtp")(replay)
    results = files.recording(name)["results"]
    for pair in (list(results)[:2], list(results)[2:]):
        threads = [threading.Thread(target=lambda key=key: found.update({key: replay.generate(
            "toy-mtp", options=results[key]["request"]["options"])})) for key in pair]  # fmt: skip
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
    replay.ollama.pace_s = 0
    replay.extra[name] = found


def client_closes(replay: Replay, name: str) -> None:
    with replay.raw(name) as connection:
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        replay.extra[name] = [reply.readline().decode() for _ in range(20)]


def cancelled(replay: Replay, name: str) -> None:
    replay.ollama.library.pause_s = 0.1
    with replay.raw(name) as connection:
        received = ""
        while "after-first-line" in name and "parsing" not in received:
            received += connection.recv(4096).decode()
    time.sleep(0.4)
    replay.ollama.library.pause_s = 0
    model = files.recording(name)["request"]["body"]["model"]
    replay.extra[name] = {"received": received, "there": f"{model}:latest" in replay.ollama.library.models,
                          "litter": list(replay.ollama.library.litter)}  # fmt: skip


def log_length(replay: Replay) -> int:
    return replay.ollama.log.stat().st_size if replay.ollama.log and replay.ollama.log.exists() else 0


def log_since(replay: Replay, mark: int) -> str:
    return replay.ollama.log.read_text()[mark:] if replay.ollama.log else ""


def log_lines(replay: Replay, name: str) -> None:
    unload("toy-mtp")(replay)
    mark = log_length(replay)
    replay.generate("toy-mtp")
    loaded = log_since(replay, mark)
    mark = log_length(replay)
    replay.generate("toy-mtp")
    replay.extra[name] = {"load": loaded, "generate": log_since(replay, mark)}


SPECIAL: dict[str, Callable[[Replay, str], None]] = {
    "033-blob-post-existing": existing,
    "033c-blob-post-existing-expect": expecting,
    "080-on-disk-manifests": manifests,
    "098-ps-while-loading": while_loading,
    "110-runner-sharing": sharing,
    "111-queueing": queueing,
    "187-generate-client-closes": client_closes,
    "190-create-cancel-at-once": cancelled,
    "191-create-cancel-after-first-line": cancelled,
    "300-server-log-lines": log_lines,
}


# ---- Comparing


def plain(value: Any, key: str = "") -> Any:
    """A reply without what differs from one server to the next: times, ids, digests, and the order of sets."""
    if isinstance(value, dict):
        return {name: plain(each, name) for name, each in value.items()}
    if isinstance(value, list):
        if key in ("models", "data"):
            value = sorted(value, key=lambda each: str(each.get("name") or each.get("id")))
        return ["number"] * len(value) if key == "context" else [plain(each) for each in value]
    if key in TIMES or key.endswith("_duration") or key == "created":
        return type(value).__name__
    return _plain_text(value, key) if isinstance(value, str) else value


def _plain_text(value: str, key: str) -> Any:
    if key == "id":
        return re.sub(r"-\d+$", "-number", value)
    value = HEX.sub(lambda match: OURS.get(match[0]) or files.DIGESTS.get(match[0]) or "other", value)
    return sorted(value.splitlines()) if key in ("modelfile", "parameters") else value
