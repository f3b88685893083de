"""What the server answers, path by path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from advisor.errors import AdvisorError
from backends.native import metrics, openapi
from backends.native.answer import Final
from backends.native.depth import AUTO
from backends.native.guard import Guard, TooLargeError, read
from backends.native.replies import Shape, failure, problem, refused
from backends.native.request import Body
from backends.native.service import Event, Service, Ticket, UnknownModel
from backends.native.tally import Tally
from backends.native.text import Piece
from backends.native.tools import Call

MOST_BYTES = 8 << 20
"""Of a body, where nobody says otherwise: 256K tokens of text are about one."""
BODY_SECONDS = 30.0
PLACE = re.compile(r" - at `\$\.(?P<field>\w+)[^`]*`$")
GONE = 499
"""For a client that will not read it: nginx's number for that."""


class Limits(NamedTuple):
    """`bytes`: of a body; `seconds`: in which it must have come."""

    bytes: int = MOST_BYTES
    seconds: float = BODY_SECONDS


LIMITS = Limits()


async def completion(request: Request, *, chat: bool) -> Response:
    """Both faces: a chat and plain text."""
    service: Service = request.app.state.service
    try:
        body = await asked(request)
        # Templates and tokenizing take their time with a long prompt; others want to be answered meanwhile.
        job = await asyncio.to_thread(service.job, body, chat=chat)
        ticket = service.enter(job)
    except AdvisorError as error:
        return refused(error)
    except HTTPException as error:
        return await http_error(request, error)
    events, shape = ticket.events(whole=not body.stream), Shape(service.name, chat)
    watch = asyncio.create_task(_watch(request, ticket))
    stream = False
    try:
        # Whatever is wrong with a request shows at its first event: then the status is still ours to choose.
        first = await anext(events, None)
        stream = bool(body.stream) and first is not None and not isinstance(first, AdvisorError)
        if stream:
            live = ticket.tally if body.timings_per_token else None
            lines = _stream(first, events, shape, usage=body.usage, live=live)
            return Stream(lines, media_type="text/event-stream", left=lambda: service.leave(ticket))
        return await _whole(first, events, shape)
    finally:
        watch.cancel()
        if not stream:
            service.leave(ticket)


class Stream(StreamingResponse):
    """Calls `left` when the stream has ended, however it did, even where it never began."""

    def __init__(self, content: AsyncIterator[bytes], *, media_type: str, left: Callable[[], None]) -> None:
        super().__init__(content, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()


async def asked(request: Request) -> Body:
    """The request's body.

    Raises:
        HTTPException: it is too large, too slow, not JSON, or says something of the wrong type.
    """
    limits: Limits = request.app.state.limits
    try:
        return msgspec.json.decode(await read(request, limits.bytes, limits.seconds), type=Body)
    except TooLargeError:
        raise HTTPException(413, f"the body is larger than {limits.bytes >> 20} MiB") from None
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(GONE, "the client went") from None
    except msgspec.ValidationError as error:
        raise HTTPException(400, str(error)) from None
    except RecursionError:
        raise HTTPException(400, "the body is not JSON that can be read: it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None


async def _whole(first: Event | None, events: AsyncIterator[Event], shape: Shape) -> Response:
    pieces: list[Piece | Call] = []
    event = first
    while event is not None:
        if isinstance(event, AdvisorError):
            return refused(event)
        if isinstance(event, Final):
            return JSONResponse(shape.whole(pieces, event))
        pieces.append(event)
        event = await anext(events, None)
    return failure("the request was cancelled", GONE, kind="server_error")


async def _stream(
    first: Event | None, events: AsyncIterator[Event], shape: Shape, *, usage: bool, live: Tally | None = None
) -> AsyncIterator[bytes]:
    event, begun, calls = first, False, 0
    while event is not None:
        if isinstance(event, AdvisorError):
            yield _line(problem(event.message, "server_error", event.code))
            return
        if isinstance(event, Final):
            yield _line(shape.last(event)) + (_line(shape.usage(event)) if usage else b"") + b"data: [DONE]\n\n"
            return
        calls += isinstance(event, Call) and bool(event.name)
        counted = {"timings": live.so_far} if live else {}
        yield _line(shape.chunk(event, first=not begun, calls=calls) | counted)
        begun = True
        event = await anext(events, None)


def _line(data: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


async def _watch(request: Request, ticket: Ticket) -> None:
    """Leave the queue, or stop the engine, when the client of an answer that has not begun to flow goes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.leave()


async def chat_completions(request: Request) -> Response:
    return await completion(request, chat=True)


async def completions(request: Request) -> Response:
    return await completion(request, chat=False)


def _model(service: Service) -> dict[str, Any]:
    engine = service.engine
    return {
        "id": service.name,
        "object": "model",
        "created": 0,
        "owned_by": "advisor",
        "aliases": list(service.aliases),
        "context_tokens": engine.target.context.tokens,
        "drafter": engine.has_drafter,
        "draft_tokens": ("auto" if service.draft_tokens == AUTO else service.draft_tokens) if engine.has_drafter else 0,
    }


async def models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_model(request.app.state.service)]})


async def model(request: Request) -> Response:
    service: Service = request.app.state.service
    try:
        service.known(request.path_params["name"])
    except UnknownModel as error:
        return refused(error)
    return JSONResponse(_model(service))


async def health(request: Request) -> Response:
    service: Service = request.app.state.service
    status = "stopping" if service.closing else "ok"
    return JSONResponse(
        {"status": status, "model": service.name, "requests": len(service.tickets), "waiting": service.waiting},
        503 if service.closing else 200,
    )


async def props(request: Request) -> Response:
    """What the server is; names as llama-server's."""
    service: Service = request.app.state.service
    template = service.prompt.template
    return JSONResponse(
        {
            "model_alias": service.name,
            "default_generation_settings": {"n_ctx": service.engine.target.context.tokens},
            "total_slots": 1,
            "modalities": {"vision": False, "audio": False},
            "chat_template": template.text if template else "",
            **request.app.state.build,
        }
    )


async def counters(request: Request) -> Response:
    text = metrics.text(request.app.state.service)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def description(request: Request) -> Response:
    return JSONResponse(openapi.document(request.app.state.service.name))


async def http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    found = PLACE.search(str(error.detail))
    return failure(str(error.detail), error.status_code, param=found["field"] if found else None, headers=error.headers)


async def fault(_request: Request, error: Exception) -> Response:
    """Ours: the traceback is in the log."""
    return failure(f"the server failed: {type(error).__name__}", 500, kind="server_error")


HANDLERS: dict[str, tuple[str, Callable[[Request], Any]]] = {
    "/v1/chat/completions": ("POST", chat_completions),
    "/v1/completions": ("POST", completions),
    "/v1/models": ("GET", models),
    "/v1/models/{name:path}": ("GET", model),
    "/health": ("GET", health),
    "/props": ("GET", props),
    "/metrics": ("GET", counters),
    "/openapi.json": ("GET", description),
}


def application(
    service: Service,
    *,
    host: str = "127.0.0.1",
    key: str | None = None,
    limits: Limits = LIMITS,
    build: Mapping[str, Any] | None = None,
) -> Starlette:
    """The routes over one service. `build`: what is known of the runtime's build, for `/props`."""
    app = Starlette(
        routes=[Route(path, handler, methods=[method]) for path, (method, handler) in HANDLERS.items()],
        middleware=[Middleware(Guard, host=host, key=key)],
        exception_handlers={HTTPException: http_error, Exception: fault},
    )
    app.state.service, app.state.limits, app.state.build = service, limits, dict(build or {})
    return app
