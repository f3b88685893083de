"""Ollama's API: through its own Python package, and what that does not cover through one HTTP client of its own.

The only module that talks to the server. Every failure leaves as an `AdvisorError`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import ollama

from advisor.errors import AdvisorError, Interrupted
from advisor.machine import Record
from backends.ollama import address, failures
from backends.ollama.digests import PIECE
from backends.ollama.models import Shown

CONNECT_S = 5.0
POLL_S = 0.05
FOREVER = -1
"""As `keep_alive`: until it is unloaded."""


class Entry(Record, frozen=True, kw_only=True):
    """A model of the server's. `digest`: of its manifest; `size`: bytes of all its layers."""

    name: str
    digest: str
    size: int
    quant: str = ""


class Layer(Record, frozen=True, kw_only=True):
    """How far the pull of a layer is, in bytes."""

    digest: str
    done: int
    size: int


class Api:
    """One server.

    Args:
        where: its address.
    """

    def __init__(self, where: address.Address) -> None:
        self.where = where
        self.url = where.url

    def close(self) -> None:
        for made in ("_package", "_http"):
            if client := self.__dict__.pop(made, None):
                client.close()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @functools.cached_property
    def _package(self) -> ollama.Client:
        return ollama.Client(host=self.url, **self._manners())

    @functools.cached_property
    def _http(self) -> httpx.Client:
        key = os.environ.get("OLLAMA_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, **self._manners())

    def _manners(self) -> dict[str, Any]:
        # No limit on reading: a large model loads for minutes, and a server that dies closes its socket. Never through
        # a proxy to this machine. Certificates take a while to load; without https there are none to check.
        return {
            "timeout": httpx.Timeout(CONNECT_S, read=None, write=None),
            "trust_env": not self.where.local,
            "verify": self.where.scheme == "https",
        }

    @contextlib.contextmanager
    def _told(self, model: str = "", gone: Callable[[], AdvisorError] | None = None) -> Iterator[None]:
        """What libraries raise in the block, as the user's errors.

        Args:
            gone: what to say where the server went away.
        """
        try:
            yield
        except ollama.ResponseError as error:
            status = max(0, error.status_code)  # inside a stream it has none
            raise failures.explained(str(error.error), status=status, model=model) from error
        except (httpx.HTTPError, ConnectionError) as error:
            raise (gone or functools.partial(failures.down, self.url))() from error
        except ValueError as error:  # no JSON, or not the shape that the package knows
            raise failures.garbled(self.url, error) from error

    # ---- What is there

    def entries(self) -> list[Entry]:
        """All models."""
        with self._told():
            return [
                Entry(
                    name=each.model or "",
                    digest=each.digest or "",
                    size=int(each.size or 0),
                    quant=(each.details.quantization_level if each.details else "") or "",
                )
                for each in self._package.list().models
            ]

    def entry(self, name: str) -> Entry | None:
        """The model of that name, if it is there."""
        return next((each for each in self.entries() if each.name == full(name)), None)

    def loaded(self) -> list[Entry]:
        """What is in memory, by `/api/ps`: the size that it gives is not passed on, because with a drafter it is
        wrong."""
        with self._told():
            found = self._package.ps().models
        return [Entry(name=each.name or each.model or "", digest=each.digest or "", size=0) for each in found]

    def show(self, name: str) -> Shown:
        """What a model is made of.

        Raises:
            UsageError: there is none of that name.
        """
        with self._told(name):
            found = self._package.show(name)
        return Shown.read(found.modelfile or "", found.modelinfo or {}, found.capabilities or ())

    # ---- Getting it there

    def pull(self, tag: str) -> Iterator[Layer]:
        """Pull a tag, layer by layer. Broken off at any point, the next pull goes on there.

        Raises:
            DownloadFailed: there is no such tag, the network or the server failed, or the disk is full.
            NoBackend: the tag is for newer servers or other systems.
        """
        done = False
        with self._told(tag, gone=lambda: failures.pull_stopped(tag, self.url)):
            for each in self._package.pull(tag, stream=True):
                done = each.status == "success"
                if each.digest and each.total:
                    yield Layer(digest=each.digest, done=each.completed or 0, size=each.total)
        if not done:
            raise failures.pull_stopped(tag, self.url)

    def has_blob(self, digest: str) -> bool:
        """Whether the server has these bytes already."""
        with self._told():
            return self._http.head(f"/api/blobs/{digest}").status_code == httpx.codes.OK

    def send_blob(self, path: Path, digest: str, progress: Callable[[int, int], None]) -> None:
        """Send a file, unless it is there: posting what is there breaks the connection.

        Args:
            digest: `sha256:` and 64 digits.
            progress: called with bytes sent and bytes in all.

        Raises:
            DownloadFailed: the disk is full, or the file is not what its digest says.
        """
        if self.has_blob(digest):
            return
        size = path.stat().st_size

        def pieces() -> Iterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
                    progress(file.tell(), size)

        with self._told(path.name):
            headers = {"Content-Length": str(size)}
            reply = self._http.post(f"/api/blobs/{digest}", content=pieces(), headers=headers)
            self._checked(reply, path.name)

    def create(self, body: Mapping[str, Any]) -> None:
        """Make a model, and wait until it is made: closing the connection before that leaves a copy of the target on
        the server's disk. Interrupted, it waits all the same, and takes the model away again.

        Raises:
            RuntimeFailed: the server refused, in whichever way; nothing was made.
        """
        name, failed, done = str(body["model"]), list[BaseException](), threading.Event()

        def work() -> None:
            try:
                self._create(name, body)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                failed.append(error)
            finally:
                done.set()

        # In a thread: an interruption would end the reading, and with it the connection. Not joined, but waited for:
        # a thread whose join is interrupted counts as ended.
        threading.Thread(target=work, daemon=True, name="create").start()
        try:
            while not done.wait(POLL_S):
                pass
        except (KeyboardInterrupt, SystemExit, Interrupted):
            done.wait()
            with contextlib.suppress(AdvisorError):
                self.delete(name)
            raise
        if failed:
            raise failed[0]

    def _create(self, name: str, body: Mapping[str, Any]) -> None:
        with self._told(name), self._http.stream("POST", "/api/create", json=dict(body)) as reply:
            if reply.is_error:
                reply.read()
                self._checked(reply, name)
            self._follow(reply.iter_lines(), name)

    def _follow(self, lines: Iterator[str], name: str) -> None:
        """Read a stream to its `success`."""
        status = ""
        for line in lines:
            said = json.loads(line) if line.strip() else {}
            if error := said.get("error"):
                raise failures.explained(str(error), model=name)
            status = said.get("status") or status
        if status != "success":
            raise httpx.RemoteProtocolError(f"the stream ended with {status!r}")

    def delete(self, name: str) -> bool:
        """Take a model away; whether it was there."""
        try:
            with self._told(name):
                self._package.delete(name)
        except AdvisorError as error:
            if "has no model" in error.message:
                return False
            raise
        return True

    # ---- Running it

    def load(self, name: str, tell: Callable[[], None] = lambda: None) -> None:
        """Have it in memory until it is unloaded. Takes as long as it takes.

        Args:
            tell: called now and then. What it raises ends this, and the loading too: the server gives up what it loads
                for a client that has gone.

        Raises:
            RuntimeFailed: it does not load; the message says why.
        """
        import asyncio  # noqa: PLC0415 - a request that waits for its answer can be ended in no other way

        async def loaded() -> None:
            async with ollama.AsyncClient(host=self.url, **self._manners()) as client:
                asking = asyncio.create_task(client.generate(name, keep_alive=FOREVER))
                try:
                    while not (await asyncio.wait([asking], timeout=POLL_S))[0]:
                        tell()
                finally:
                    asking.cancel()
                await asking

        with self._told(name):
            asyncio.run(loaded())

    def unload(self, name: str) -> None:
        """Have nothing in memory that runs on this model's target, under whichever name; another process of it may
        take a moment to end."""
        with self._told(name):
            self._package.generate(name, keep_alive=0)

    def chat(self, name: str, **request: Any) -> Iterator[Mapping[str, Any]]:
        """Stream an answer, one object per piece; the last one is `done`.

        Raises:
            UsageError: the server refuses the request.
            RuntimeFailed: it failed, or the stream ended in the middle.
        """
        return self._stream(name, lambda: self._package.chat(name, stream=True, keep_alive=FOREVER, **request))

    def generate(self, name: str, **request: Any) -> Iterator[Mapping[str, Any]]:
        """As `chat`, for one text."""
        return self._stream(name, lambda: self._package.generate(name, stream=True, keep_alive=FOREVER, **request))

    def _stream(self, name: str, ask: Callable[[], Iterator[Any]]) -> Iterator[Mapping[str, Any]]:
        done = False
        with self._told(name):
            for each in ask():
                said = each.model_dump()
                done = bool(said.get("done"))
                yield said
        if not done:
            raise failures.ended_early(self.url)

    def _checked(self, reply: httpx.Response, model: str) -> None:
        if not reply.is_error:
            return
        try:
            text = str(reply.json().get("error", reply.text))
        except (ValueError, AttributeError):
            text = reply.text
        raise failures.explained(text, status=reply.status_code, model=model)


def full(name: str) -> str:
    """A name as the server lists it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
