"""The OpenAI-compatible server around the engine, in a process of its own.

    python -m backends.native.server --target FILE [--drafter FILE] [--port N]

Standard output carries one JSON line when it answers, `{"ready": {...}}`, or why it never will, `{"error": {...}}`.
Requests wait for each other: there is one engine, and all of llama.cpp runs on one thread, because OpenMP starts a new
team of threads for every thread that calls it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends.native.answer import Final, Job, answer
from backends.native.engine import Engine
from backends.native.library import ContextFull
from backends.native.prompt import Prompt
from backends.native.tally import Tally
from backends.native.target import MAX_DRAFT
from backends.native.text import Piece

DRAFT_TOKENS = 3
"""Drafted per round where nobody says otherwise."""
Event = Piece | Final | AdvisorError


class Body(msgspec.Struct, kw_only=True):
    """What a request may say; fields of OpenAI's that are not here are ignored."""

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[str] | None = None
    model: str | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    draft_tokens: int | None = None
    """Ours: tokens drafted per round in this request, 0 for plain decoding."""
    chat_template_kwargs: dict[str, Any] | None = None

    def check(self) -> None:
        """Raises UsageError for what this engine does not do."""
        if self.temperature:
            raise UsageError(f"temperature is {self.temperature}; this engine samples greedily only (temperature 0)")
        if self.n not in (None, 1):
            raise UsageError(f"n is {self.n}; one answer per request")
        limit = self.limit
        if limit is not None and limit < 1:
            raise UsageError(f"max_tokens is {limit}, not at least 1")
        if self.draft_tokens is not None and not 0 <= self.draft_tokens <= MAX_DRAFT:
            raise UsageError(f"draft_tokens is {self.draft_tokens}, not between 0 and {MAX_DRAFT}")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


@dataclass
class Service:
    """The engine with its one thread, and what it counted. `name`: the model's, as clients see it."""

    name: str
    draft_tokens: int
    engine: Engine = field(init=False)
    prompt: Prompt = field(init=False)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "engine"))
    tally: Tally = field(default_factory=Tally)
    requests: int = 0
    busy: int = 0

    def load(self, make: Callable[[], Engine]) -> None:
        """Make the engine on its thread.

        Raises:
            RuntimeFailed: as `Engine`.
        """
        self.engine = self.thread.submit(make).result()
        self.prompt = Prompt(self.engine.target.model)

    def job(self, body: Body, *, chat: bool) -> Job:
        """The job that a request asks for.

        Raises:
            UsageError: it asks for something impossible.
        """
        body.check()
        if chat:
            if body.messages is None:
                raise UsageError("messages is missing")
            options = body.chat_template_kwargs or {}
            tokens = self.prompt.chat(body.messages, thinking=bool(options.get("enable_thinking")))
        else:
            texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt or []
            if len(texts) != 1:
                raise UsageError("prompt must be one text")
            tokens = self.prompt.plain(texts[0])
        drafts = self.draft_tokens if body.draft_tokens is None else body.draft_tokens
        return Job(tokens, drafts, body.limit, body.stops, thoughts=chat)

    async def run(self, job: Job, cancelled: threading.Event) -> AsyncIterator[Event]:
        """The events of one answer, pieces that came together joined. Setting `cancelled` ends it."""
        loop, ready, events = asyncio.get_running_loop(), asyncio.Event(), deque[Event | None]()

        def put(event: Event | None) -> None:
            events.append(event)
            with contextlib.suppress(RuntimeError):  # the loop has gone: nobody listens any more
                loop.call_soon_threadsafe(ready.set)

        self.thread.submit(self._work, job, cancelled, put)
        self.busy += 1
        try:
            while True:
                await ready.wait()
                ready.clear()
                for event in _joined(events):
                    if event is None:
                        return
                    yield event
        finally:
            self.busy -= 1
            cancelled.set()

    def _work(self, job: Job, cancelled: threading.Event, put: Callable[[Event | None], None]) -> None:
        """On the engine's thread."""
        try:
            if cancelled.is_set():
                return
            for event in answer(self.engine, job, cancelled.is_set):
                if isinstance(event, Final):
                    self.tally.merge(event.tally)
                    self.requests += 1
                put(event)
        except AdvisorError as error:
            put(error)
        except Exception as error:  # noqa: BLE001 - the thread must answer, whatever happened
            put(RuntimeFailed(f"the engine failed: {error!r}"))
        finally:
            put(None)


def _joined(events: deque[Event | None]) -> Iterator[Event | None]:
    """Empty the queue; neighbouring pieces of one kind become one, so that a slow reader is not sent crumbs."""
    last: Piece | None = None
    while events:
        event = events.popleft()
        if isinstance(event, Piece):
            if last and last.thought == event.thought:
                last = Piece(last.text + event.text, event.thought)
                continue
            last, event = event, last
            if event is None:
                continue
        elif last:
            yield last
            last = None
        yield event
    if last:
        yield last


@dataclass(frozen=True)
class Shape:
    """How replies of one of the two faces look."""

    service: Service
    chat: bool
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def envelope(self, choice: Mapping[str, Any], *, chunk: bool) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind + (".chunk" if chunk and self.chat else ""),
            "created": self.created,
            "model": self.service.name,
            "choices": [{"index": 0, **choice}],
        }

    def chunk(self, piece: Piece, *, first: bool) -> dict[str, Any]:
        if not self.chat:
            return self.envelope({"text": piece.text, "finish_reason": None}, chunk=True)
        delta = {"reasoning_content" if piece.thought else "content": piece.text}
        if first:
            delta = {"role": "assistant", **delta}
        return self.envelope({"delta": delta, "finish_reason": None}, chunk=True)

    def last(self, final: Final) -> dict[str, Any]:
        body: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return {**self.envelope({**body, "finish_reason": final.reason}, chunk=True), **_numbers(final)}

    def whole(self, pieces: list[Piece], final: Final) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces if not piece.thought)
        if not self.chat:
            return {
                **self.envelope({"text": text, "finish_reason": final.reason}, chunk=False),
                **_numbers(final),
            }
        message = {"role": "assistant", "content": text}
        thought = "".join(piece.text for piece in pieces if piece.thought)
        if thought:
            message["reasoning_content"] = thought
        choice = {"message": message, "finish_reason": final.reason}
        return {**self.envelope(choice, chunk=False), **_numbers(final)}


def _numbers(final: Final) -> dict[str, Any]:
    timings = final.timings
    usage = {
        "prompt_tokens": timings.prompt_n,
        "completion_tokens": timings.predicted_n,
        "total_tokens": timings.prompt_n + timings.predicted_n,
    }
    return {"usage": usage, "timings": msgspec.to_builtins(timings)}


def failure(message: str, status: int, *, kind: str = "invalid_request_error", code: str | None = None) -> Response:
    """An OpenAI error object."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def refused(error: AdvisorError) -> Response:
    text = f"{error.message}. {error.hint}" if error.hint else error.message
    if isinstance(error, ContextFull):
        return failure(text, 400, code="context_length_exceeded")
    if isinstance(error, UsageError):
        return failure(text, 400)
    return failure(text, 500, kind="server_error", code=error.code)


async def completion(request: Request, *, chat: bool) -> Response:
    """Both faces: a chat and plain text."""
    service: Service = request.app.state.service
    try:
        body = msgspec.json.decode(await request.body(), type=Body)
        job = service.job(body, chat=chat)
    except msgspec.ValidationError as error:
        return failure(str(error), 400)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return failure(f"the body is not JSON: {error}", 400)
    except AdvisorError as error:
        return refused(error)
    cancelled = threading.Event()
    events = service.run(job, cancelled)
    shape = Shape(service, chat)
    watch = asyncio.create_task(_watch(request, cancelled))
    try:
        # Whatever is wrong with a request shows at its first event: then the status is still ours to choose.
        first = await anext(events, None)
        if isinstance(first, AdvisorError):
            return refused(first)
        if body.stream and first is not None:
            return StreamingResponse(_stream(first, events, shape), media_type="text/event-stream")
        return await _whole(first, events, shape)
    finally:
        watch.cancel()


async def _whole(first: Event | None, events: AsyncIterator[Event], shape: Shape) -> Response:
    pieces: list[Piece] = []
    event = first
    while event is not None:
        if isinstance(event, AdvisorError):
            return refused(event)
        if isinstance(event, Final):
            return JSONResponse(shape.whole(pieces, event))
        pieces.append(event)
        event = await anext(events, None)
    return failure("the request was cancelled", 499, kind="server_error")


async def _stream(first: Event, events: AsyncIterator[Event], shape: Shape) -> AsyncIterator[bytes]:
    event: Event | None = first
    begun = False
    try:
        while event is not None:
            if isinstance(event, AdvisorError):
                yield _line({"error": {"message": event.message, "type": "server_error", "code": event.code}})
                return
            if isinstance(event, Final):
                yield _line(shape.last(event)) + b"data: [DONE]\n\n"
                return
            yield _line(shape.chunk(event, first=not begun))
            begun = True
            event = await anext(events, None)
    finally:
        # A client that has gone ends here: closing the events stops the engine before its next round.
        with contextlib.suppress(AttributeError, RuntimeError):
            await events.aclose()  # type: ignore[attr-defined]


def _line(data: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


async def _watch(request: Request, cancelled: threading.Event) -> None:
    """Stop generating when the client of a whole answer goes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    cancelled.set()


async def chat_completions(request: Request) -> Response:
    return await completion(request, chat=True)


async def completions(request: Request) -> Response:
    return await completion(request, chat=False)


async def models(request: Request) -> Response:
    service: Service = request.app.state.service
    engine = service.engine
    entry = {
        "id": service.name,
        "object": "model",
        "owned_by": "advisor",
        "context_tokens": engine.target.context.tokens,
        "drafter": engine.has_drafter,
        "draft_tokens": service.draft_tokens if engine.has_drafter else 0,
    }
    return JSONResponse({"object": "list", "data": [entry]})


async def health(request: Request) -> Response:
    service: Service = request.app.state.service
    return JSONResponse({"status": "ok", "model": service.name, "requests": service.busy})


async def metrics(request: Request) -> Response:
    """Counters since the start, as Prometheus reads them."""
    service: Service = request.app.state.service
    tally = service.tally
    lines = [
        f"advisor_requests_total {service.requests}",
        f"advisor_requests_running {service.busy}",
        f"advisor_predicted_tokens_total {tally.tokens}",
        f"advisor_predicted_seconds_total {tally.seconds:.6f}",
        f"advisor_drafted_tokens_total {tally.drafted}",
        f"advisor_accepted_tokens_total {tally.accepted}",
        *(f'advisor_drafted_at_total{{position="{i}"}} {n}' for i, n in enumerate(tally.offered)),
        *(f'advisor_accepted_at_total{{position="{i}"}} {n}' for i, n in enumerate(tally.right)),
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


async def http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    return failure(str(error.detail), error.status_code)


def application(service: Service) -> Starlette:
    """The routes over one service."""
    routes = [
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_error})
    app.state.service = service
    return app


class Server(uvicorn.Server):
    """Says when it answers, and leaves signals alone: there is nothing to save, so the default (die) is right."""

    ready: dict[str, Any]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say({"ready": self.ready})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def say(data: Mapping[str, Any]) -> None:
    print(json.dumps(data), flush=True)


def leave_with_parent() -> None:
    """End this process when standard input closes: whoever started it has gone, however it went."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="backends.native.server", description="Gemma 4 with its drafter over HTTP.")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--drafter", type=Path)
    parser.add_argument("--draft-tokens", type=int, default=DRAFT_TOKENS)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gpu-layers", type=int)
    parser.add_argument("--name", default="gemma-4")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    return parser.parse_args(argv)


def serve(options: argparse.Namespace) -> None:
    """Load, listen, answer until killed.

    Raises:
        RuntimeFailed: a model does not load, or the port is taken.
    """
    service = Service(options.name, options.draft_tokens)
    listener = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        raise RuntimeFailed(
            f"port {options.port} of {options.host} cannot be used: {error.strerror}",
            hint="give another one with --port, or none for any free one",
        ) from error
    service.load(
        lambda: Engine(
            options.target,
            options.drafter,
            context_tokens=options.context,
            threads=options.threads,
            gpu_layers=options.gpu_layers,
        )
    )
    config = uvicorn.Config(application(service), log_level="warning", access_log=False, lifespan="off", ws="none")
    server = Server(config)
    server.ready = {
        "host": options.host,
        "port": listener.getsockname()[1],
        "model": options.name,
        "context_tokens": service.engine.target.context.tokens,
        "drafter": service.engine.has_drafter,
    }
    server.run(sockets=[listener])


def main() -> None:
    """Run the server; a failure to start is one line of JSON and exit code 6."""
    options = arguments()
    if options.with_parent:
        leave_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c belongs to whoever started this
    try:
        serve(options)
    except AdvisorError as error:
        say(error.as_json())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
