"""The OpenAI-compatible server around the engine, in a process of its own.

    python -m backends.native.server --target FILE [--drafter FILE] [--port N]

Standard output carries one JSON line when it answers, `{"ready": {...}}`, or why it never will, `{"error": {...}}`;
with `--with-parent` also a sign of life every second, `{"alive": N}`. SIGTERM lets the running answer end, for a while.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import uvicorn

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends.native.decoder import Decoder
from backends.native.depth import AUTO
from backends.native.engine import Engine
from backends.native.guard import loopback
from backends.native.library import build
from backends.native.process import LOG
from backends.native.routes import MOST_BYTES, Limits, application
from backends.native.service import QUEUE, Service

DRAFT_TOKENS = 3
"""Drafted per round where nobody says otherwise."""
KEY = "ADVISOR_API_KEY"
GRACE = 5.0
"""Seconds that a running answer has to end after SIGTERM, where nobody says otherwise."""
STUCK = 900.0
"""Seconds without progress after which the engine hangs: reading 512 tokens with the largest model on a slow
processor takes minutes."""
BEAT = 1.0
"""Seconds between two signs of life."""
BACKLOG = 512
"""Connections that may wait to be taken."""


class Server(uvicorn.Server):
    """Says when it answers, and stops gracefully: who waits is sent home, who is being answered has `grace` seconds."""

    ready: dict[str, Any]
    service: Service
    grace: float

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        with contextlib.suppress(NotImplementedError):  # Windows: there it just dies
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        say({"ready": self.ready})

    def _stop(self) -> None:
        self.service.close()
        self.should_exit = True
        asyncio.get_running_loop().call_later(self.grace, self.service.cancel)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def say(data: Mapping[str, Any]) -> None:
    """One line, in one write: two threads may speak at once."""
    with contextlib.suppress(OSError):
        os.write(1, (json.dumps(data) + "\n").encode())


def show_life(service: Service, stuck: float) -> None:
    """Say every second that this process lives, unless the engine has been silent for `stuck` seconds."""

    def beat() -> None:
        while True:
            if not service.working or time.monotonic() - service.progress < stuck:
                say({"alive": round(time.monotonic() - service.progress, 1)})
            time.sleep(BEAT)

    threading.Thread(target=beat, daemon=True, name="alive").start()


def leave_with_parent() -> None:
    """End this process when standard input closes: whoever started it has gone, however it went."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        # Nobody is left to read the log, or to take it away.
        with contextlib.suppress(OSError):
            log = Path("/proc/self/fd/2").readlink()
            if log.name.startswith(LOG):
                log.unlink()
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def leave_no_core() -> None:
    """A crash must not fill the disk with a copy of the model."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has neither limits nor such files
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def lengths(text: str) -> int:
    """A draft length of the command line."""
    return AUTO if text == "auto" else int(text)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    taken = parser("backends.native.server")
    taken.add_argument("--gpu-layers", type=int)
    return taken.parse_args(argv)


def parser(program: str) -> argparse.ArgumentParser:
    """What the server takes, whatever computes in it."""
    parser = argparse.ArgumentParser(prog=program, description="Gemma 4 with its drafter over HTTP.")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--drafter", type=Path)
    parser.add_argument("--draft-tokens", type=lengths, default=DRAFT_TOKENS, metavar="N|auto")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--name", default="gemma-4")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--alias", action="append", default=[], help="another name for the model; may be repeated")
    parser.add_argument("--api-key-file", type=Path, help=f"requests must carry the key in it, or in ${KEY}")
    parser.add_argument("--queue", type=int, default=QUEUE, help="requests that may wait")
    parser.add_argument("--max-body", type=int, default=MOST_BYTES, help="bytes of a request")
    parser.add_argument("--thinking", action="store_true", help="think first, where a request does not say")
    parser.add_argument("--grace", type=float, default=GRACE, help="seconds for a running answer after SIGTERM")
    parser.add_argument("--stuck", type=float, default=STUCK, help="seconds without progress that mean a hang")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    return parser


def key(options: argparse.Namespace) -> str | None:
    """The API key, from a file or the environment: a command line would show it to everybody on this machine.

    Raises:
        UsageError: the file cannot be read, or is empty.
    """
    if options.api_key_file is None:
        return os.environ.get(KEY) or None
    try:
        found: str = options.api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{options.api_key_file} cannot be read: {error}") from None
    if not found:
        raise UsageError(f"{options.api_key_file} is empty; it should hold the API key")
    return found


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that nobody else can take the port while the model loads: who comes meanwhile waits.

    Raises:
        RuntimeFailed: the port is taken, or the address is not this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":
        # A port whose last connections are still fading out is free; on Windows it would mean that of another server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise RuntimeFailed(
            f"port {port} of {host} cannot be used: {why}",
            hint="give another one with --port, or none for any free one",
        ) from error
    return listener


def start(options: argparse.Namespace) -> None:
    """Serve llama.cpp's engine; raises as `serve`."""
    serve(
        options,
        lambda: facts(options.gpu_layers),
        lambda: Engine(
            options.target,
            options.drafter,
            context_tokens=options.context,
            threads=options.threads,
            gpu_layers=options.gpu_layers,
        ),
    )


def facts(gpu_layers: int | None) -> dict[str, Any]:
    """What is known of llama.cpp's build.

    Raises:
        UsageError: it has no use for the GPU that it is to use.
    """
    found = build()
    if gpu_layers and not found["gpu_offload"]:
        raise UsageError(
            f"--gpu-layers is {gpu_layers}, but this llama-cpp-python computes on the processor only",
            hint="`advisor backends` says how to get a build for the GPU; or leave --gpu-layers out",
            command="advisor backends",
        )
    return found


def serve(options: argparse.Namespace, describe: Callable[[], Mapping[str, Any]], make: Callable[[], Decoder]) -> None:
    """Load, listen, answer until killed.

    Args:
        describe: says what is known of the runtime's build.
        make: loads the engine.

    Raises:
        RuntimeFailed: a model does not load, or the port is taken.
        UsageError: the options ask for what cannot be.
    """
    secret = key(options)
    if not loopback(options.host) and secret is None:
        print(f"warning: {options.host} can be reached from other machines, and there is no API key", file=sys.stderr)
    service = Service(
        options.name, options.draft_tokens, tuple(options.alias), queue=options.queue, thinking=options.thinking
    )
    if options.with_parent:
        show_life(service, options.stuck)
    known = describe()
    listener = listening(options.host, options.port)
    service.load(make)
    app = application(service, host=options.host, key=secret, limits=Limits(options.max_body), build=known)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(options.grace) + 2,
    )
    server = Server(config)
    server.service, server.grace = service, options.grace
    server.ready = {
        "host": options.host,
        "port": listener.getsockname()[1],
        "model": options.name,
        "context_tokens": service.engine.target.context.tokens,
        "drafter": service.engine.has_drafter,
        **known,
    }
    server.run(sockets=[listener])


def main() -> None:
    run(arguments(), start)


def run(options: argparse.Namespace, start: Callable[[argparse.Namespace], None]) -> NoReturn:
    """Run a server; a failure to start is one line of JSON and exit code 6."""
    if options.with_parent:
        leave_with_parent()
    leave_no_core()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c belongs to whoever started this
    try:
        start(options)
    except AdvisorError as error:
        say(error.as_json())
        leave(error.exit_code)
    leave(0)


def leave(code: int) -> NoReturn:
    """End at once: the engine's thread may be in the middle of a decode that nobody waits for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
