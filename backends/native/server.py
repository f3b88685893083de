"""The OpenAI-compatible server around the engine, in a process of its own.

    python -m backends.native.server --target FILE [--drafter FILE] [--port N]

Standard output carries one JSON line when it answers, `{"ready": {...}}`, or why it never will, `{"error": {...}}`.
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
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from advisor.errors import AdvisorError, RuntimeFailed
from backends.native.answer import Final
from backends.native.engine import Engine
from backends.native.replies import Shape, failure, refused
from backends.native.service import Body, Event, Service
from backends.native.text import Piece

DRAFT_TOKENS = 3
"""Drafted per round where nobody says otherwise."""


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
    shape = Shape(service.name, chat)
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
