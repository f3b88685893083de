"""Backends that break one rule each, and are sound otherwise."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from advisor.errors import Interrupted, RuntimeFailed
from advisor.machine import Availability
from advisor.running.client import Client, Done, Text
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Progress, Stats, Watch
from tests.conformance.example import Example
from tests.conformance.relay import Relay

# ---- detect


class Slow(Relay):
    def detect(self) -> Availability:
        time.sleep(1.1)
        return super().detect()


class Heavy(Relay):
    def detect(self) -> Availability:
        import numpy as np

        return msgspec.structs.replace(super().detect(), version=np.__version__)


class Raising(Relay):
    def detect(self) -> Availability:
        Path(os.environ["HOME"]).stat()
        return super().detect()


class Silent(Relay):
    """Not there, for no reason."""

    def detect(self) -> Availability:
        return Availability(name=self.name, available=False)


# ---- plan


class Writing(Relay):
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        # It tries to: nothing can be written there.
        with contextlib.suppress(OSError), Path(os.devnull, "plan").open("w"):
            pass
        return super().plan(model, options)


class Asking(Relay):
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        subprocess.run([sys.executable, "-c", ""], check=True)
        return super().plan(model, options)


class Connecting(Relay):
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 9)).close()
        return super().plan(model, options)


class Fickle(Relay):
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        return msgspec.structs.replace(super().plan(model, options), command=f"relay {random.random()}")


class Rigid(Relay):
    """Plans what was planned before."""

    kept: LaunchPlan | None = None

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        if self.kept is None or (model.name != "other" and self.kept != super().plan(model, options)):
            self.kept = super().plan(model, options)
        return self.kept


class Unwritable(Relay):
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        return msgspec.structs.replace(super().plan(model, options), argv=(object, "x"))


class Wordless(Relay):
    def plan(self, model: Model, options: Options) -> LaunchPlan:
        return msgspec.structs.replace(super().plan(model, options), command="")


# ---- prepare


class Preparing(Relay):
    """Sound: it goes on where it was."""

    def __init__(self) -> None:
        self.done = 0

    def prepare(self, plan: LaunchPlan, progress: Progress) -> None:
        while self.done < 10:
            self.done += 1
            progress("file", self.done, 10)


class Forgetful(Preparing):
    def prepare(self, plan: LaunchPlan, progress: Progress) -> None:
        self.done = 0
        super().prepare(plan, progress)


class Stubborn(Preparing):
    def prepare(self, plan: LaunchPlan, progress: Progress) -> None:
        for done in range(11):
            with contextlib.suppress(Interrupted):
                progress("file", done, 10)


class Stuck(Preparing):
    """Stumbles over what an interruption left."""

    def prepare(self, plan: LaunchPlan, progress: Progress) -> None:
        if 0 < self.done < 10:
            self.done = 10
            raise RuntimeFailed("somebody else prepares it already")
        super().prepare(plan, progress)


# ---- start


class Nameless(Relay):
    def listed(self, content: bytes) -> bytes:
        return b'{"object": "list", "data": []}'


class Early(Relay):
    """Its first start returns before it answers."""

    def __init__(self) -> None:
        self.loads = itertools.chain([True], itertools.repeat(False))

    def replied(self, status: int, content: bytes, body: bytes) -> tuple[int, bytes]:
        return (503, b"{}") if next(self.loads) else (status, content)


class Open(Relay):
    """Others can reach it."""

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        wide = msgspec.structs.replace(plan, options=msgspec.structs.replace(plan.options, host="0.0.0.0"))
        endpoint = super().start(wide, watch)
        shown = msgspec.structs.replace(endpoint, base_url=endpoint.base_url.replace("127.0.0.1", "0.0.0.0"))
        self.servers[shown.base_url] = self.servers.pop(endpoint.base_url)
        return shown


class Credulous(Relay):
    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        if not plan.model.target.name.startswith("demo"):
            plan = msgspec.structs.replace(plan, model=msgspec.structs.replace(plan.model, target=DEMO))
        return super().start(plan, watch)


class Littering(Relay):
    """Leaves a process behind when it cannot start."""

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        endpoint = super().start(plan, watch)
        process.kill()
        process.wait()
        return endpoint


# ---- answers


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    data = json.loads(content)
    change(data)
    return json.dumps(data).encode()


class Talkative(Relay):
    """Gives more than was asked for."""

    def asked(self, body: bytes) -> bytes:
        return body.replace(b'"max_tokens":8', b'"max_tokens":9')


class Headless(Relay):
    def replied(self, status: int, content: bytes, body: bytes) -> tuple[int, bytes]:
        if status == 200 and json.loads(body)["max_tokens"] == 8:
            content = changed(content, lambda data: data["choices"][0]["message"].pop("role"))
        return status, content


class Mute(Relay):
    """Its own client does not pass on what is said."""

    def client(self, endpoint: Endpoint) -> Client:
        class Deaf(Client):
            def chat(self, *args: Any, **options: Any) -> Iterator[Text | Done]:
                return (event for event in super().chat(*args, **options) if isinstance(event, Done))

        return Deaf(endpoint.base_url, endpoint.model)


class Endless(Relay):
    def streamed(self, lines: Iterable[str]) -> Iterable[str]:
        return (line for line in lines if "[DONE]" not in line)


class Buffering(Relay):
    """Streams the whole text in one piece, unless it is long."""

    def asked(self, body: bytes) -> bytes:
        self.long = b'"ignore_eos"' in body
        return body

    def streamed(self, lines: Iterable[str]) -> Iterable[str]:
        text, last = "", ""
        if self.long:
            yield from lines
        for line in lines:
            chunk = json.loads(line[5:]) if line.startswith("data: {") else {}
            delta = chunk["choices"][0]["delta"] if chunk.get("choices") else {}
            if "content" in delta:
                text, last = text + delta["content"], line
            if text and ("content" in delta or not line):
                continue
            if text:
                whole = json.loads(last[5:])
                whole["choices"][0]["delta"]["content"] = text
                yield f"data: {json.dumps(whole)}\n"
                text = ""
            yield line


def uncounted(chunk: Any) -> None:
    chunk.pop("usage", None)


class Uncounted(Relay):
    """Its streams have no usage."""

    def streamed(self, lines: Iterable[str]) -> Iterable[str]:
        for line in lines:
            yield "data: " + changed(line[6:].encode(), uncounted).decode() if line.startswith("data: {") else line


class Unstoppable(Relay):
    def asked(self, body: bytes) -> bytes:
        return changed(body, lambda data: data.pop("stop", None)) if b'"stop"' in body else body


class HalfStopping(Relay):
    """Stop strings end whole answers, not streamed ones."""

    def asked(self, body: bytes) -> bytes:
        stream = b'"stop"' in body and b'"stream"' in body
        return changed(body, lambda data: data.pop("stop")) if stream else body


class Faithful(Relay):
    """Finishes every answer, read or not, before the next."""

    def __init__(self) -> None:
        self.turn = threading.Lock()

    def written(self, lines: Iterable[str], write: Callable[[bytes], Any]) -> None:
        for line in lines:
            with contextlib.suppress(OSError):
                write(line.encode() + b"\n")


class Batching(Relay):
    """Goes on with what nobody reads in a slot of its own, a million tokens a second."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def written(self, lines: Iterable[str], write: Callable[[bytes], Any]) -> None:
        try:
            super().written(lines, write)
        except OSError:
            self.left.append(time.monotonic())
            raise

    def stats(self, endpoint: Endpoint) -> Stats:
        found = super().stats(endpoint)
        more = sum(int((time.monotonic() - since) * 1e6) for since in self.left)
        return msgspec.structs.replace(found, predicted_tokens=found.predicted_tokens + more)


class Plainspoken(Relay):
    """Refuses malformed requests in plain words."""

    def replied(self, status: int, content: bytes, body: bytes) -> tuple[int, bytes]:
        return status, content if status < 400 or b"context" in content else b"bad request"


class Guilty(Relay):
    """Takes malformed requests for its own failure."""

    def replied(self, status: int, content: bytes, body: bytes) -> tuple[int, bytes]:
        return status if status < 400 or b"context" in content else 500, content


class Cutting(Relay):
    """Answers what is left of a prompt that is too long."""

    def asked(self, body: bytes) -> bytes:
        return body.replace(b"word " * 2048, b"") if len(body) > 9000 else body


# ---- stats


class Boasting(Relay):
    def stats(self, endpoint: Endpoint) -> Stats:
        return msgspec.structs.replace(super().stats(endpoint), drafter_active=True)


class Uncounting(Relay):
    """Says that its drafter works, and counts nothing."""

    def stats(self, endpoint: Endpoint) -> Stats:
        found = super().stats(endpoint)
        return msgspec.structs.replace(found, drafted=0, accepted=0) if endpoint.drafter else found


class Inflating(Relay):
    def stats(self, endpoint: Endpoint) -> Stats:
        found = super().stats(endpoint)
        more = 2 if endpoint.drafter else 1
        return msgspec.structs.replace(found, predicted_tokens=found.predicted_tokens * more)


class Pretending(Relay):
    """Drafts though nobody asked for it."""

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        return msgspec.structs.replace(super().start(plan, watch), drafter=True)


# ---- stop


class Lingering(Relay):
    """Whoever started it cannot stop it at once."""

    def __init__(self) -> None:
        self.mine: set[str] = set()

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        endpoint = super().start(plan, watch)
        self.mine.add(endpoint.base_url)
        return endpoint

    def stop(self, endpoint: Endpoint) -> None:
        if endpoint.base_url not in self.mine:
            super().stop(endpoint)


class Once(Relay):
    def stop(self, endpoint: Endpoint) -> None:
        if endpoint.base_url not in self.servers:
            raise RuntimeFailed("there is nothing to stop")
        super().stop(endpoint)


class Jealous(Lingering):
    """Only who started it can stop it."""

    def stop(self, endpoint: Endpoint) -> None:
        if endpoint.base_url in self.mine:
            Relay.stop(self, endpoint)


class Deviating(Relay):
    """Chooses its port itself."""

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        free = msgspec.structs.replace(plan, options=msgspec.structs.replace(plan.options, port=0))
        return super().start(free, watch)


class Believing(Example):
    """Does not notice that its server has died."""

    name = "example"

    def stats(self, endpoint: Endpoint) -> Stats:
        with contextlib.suppress(RuntimeFailed):
            return super().stats(endpoint)
        return Stats(predicted_tokens=0)


DEMO = Path(__file__).parents[2] / "profiles" / "demo" / "demo.gguf"

BROKEN: dict[type[Backend], str] = {
    Slow: "detect-quick",
    Heavy: "detect-quick",
    Raising: "detect-safe",
    Silent: "detect-safe",
    Writing: "plan-pure",
    Asking: "plan-pure",
    Connecting: "plan-pure",
    Fickle: "plan-repeatable",
    Rigid: "plan-repeatable",
    Unwritable: "plan-json",
    Wordless: "plan-json",
    Forgetful: "prepare-resumes",
    Stubborn: "prepare-resumes",
    Stuck: "prepare-resumes",
    Nameless: "start",
    Early: "start",
    Open: "start",
    Credulous: "start-refuses",
    Littering: "start-refuses",
    Talkative: "chat",
    Headless: "chat",
    Mute: "client",
    Endless: "streaming",
    Buffering: "streaming",
    Uncounted: "streaming",
    Unstoppable: "stop-strings",
    HalfStopping: "stop-strings",
    Faithful: "cancelling",
    Batching: "cancelling",
    Plainspoken: "errors",
    Guilty: "errors",
    Cutting: "context-full",
    Uncounting: "stats-drafting",
    Inflating: "stats-drafting",
    Boasting: "stats-plain",
    Pretending: "stats-plain",
    Lingering: "stop-frees",
    Once: "stop-frees",
    Jealous: "stop-elsewhere",
    Deviating: "stop-elsewhere",
    Believing: "stop-gone",
}
"""Each with the one rule that it breaks."""
