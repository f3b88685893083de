"""What the backends share whose server is a program of somebody else's that reads checkpoints.

Each says its command line, where it answers that it is healthy, how it counts, and which lines of its log are the root
of a failure. "Healthy" is not believed: a first request must be answered before an endpoint is given out.
"""

from __future__ import annotations

import abc
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from advisor.errors import NoBackend, RuntimeFailed
from advisor.knowledge.profile import Runtime
from advisor.machine import Availability
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Stats, Watch
from backends.installed import find, reaches

if TYPE_CHECKING:
    import httpx

    from advisor.running.client import Client
    from backends.group import Group

SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
WARM_UP = "Say in one sentence what a drafter does."
WARM_UP_TOKENS = 24
WARM_UP_S = 900.0
"""Seconds that the first answer may take: kernels are compiled for it on some systems."""
POLL_S = 0.2
ASK_S = 5.0
"""For a question about the server itself."""


class Served(Backend):
    """A runtime of `profiles/runtimes.yaml`."""

    health = "/health"
    multimodal_only = False
    one_file = False
    """Whether a model is one file, with its drafter inside."""
    secret = ""
    """The environment's variable for the API key; the command line could be read by everybody."""

    def __init__(self) -> None:
        self._running: dict[int, Group] = {}

    @property
    def runtime(self) -> Runtime:
        """What the profiles know of it."""
        from advisor.knowledge import catalog  # noqa: PLC0415 - read once for all

        return catalog.load().runtimes[self.name]

    # ---- What it is

    def detect(self) -> Availability:
        """By the names of folders: the program's, and its package's."""
        found, runtime = find(self.runtime), self.runtime
        install = runtime.install_line(system())
        if found is None:
            said, named = os.environ.get(runtime.variable), runtime.variable  # which hides one on the PATH
            return Availability(
                name=self.name,
                available=False,
                reads="checkpoint",
                why_not=f"not installed where {named} says: there is no program {said}" if said else "not installed",
                path=said or None,
                hint=f"correct or unset {named}; {install} installs it" if said else install,
                mend=install,
            )
        why = runtime.refused.get(found.version, "")
        if not why and not reaches(found.version, runtime.floor):
            why = f"{runtime.name} {found.version} is too old for Gemma's drafter: {runtime.floor} is the first"
        return Availability(
            name=self.name,
            available=not why,
            version=found.version or None,
            drafter=not why,
            why_not=why or None,
            path=str(found.program),
            hint=f"{install} --upgrade" if why else None,
            mend=f"{install} --upgrade" if why else None,
            reads="checkpoint",
        )

    def reports(self) -> tuple[tuple[str, ...], ...]:
        found = find(self.runtime)
        return ((str(found.program), "--version"),) if found else ()

    def refusal(self, model: Model) -> str:
        """As `Backend.refusal`: no GGUF."""
        if model.target.suffix.lower() == ".gguf":
            return f"{self.runtime.name} reads checkpoints in its own format, no GGUF files"
        return ""

    # ---- Starting

    @abc.abstractmethod
    def argv(self, program: str, model: Model, options: Options) -> tuple[str, ...]:
        """Its command line."""

    def environment(self, model: Model, options: Options) -> dict[str, str]:  # noqa: ARG002
        """What it finds there beside what this process has; a secret is not in it. Default: what is here is used and
        nothing is fetched."""
        here = all(each is None or each.exists() for each in (model.target, model.drafter))
        return {"HF_HUB_OFFLINE": "1"} if here else {}

    def elsewhere(self, program: str, model: Model, options: Options) -> dict[str, str]:  # noqa: ARG002
        """What is to be typed on each other host."""
        return {}

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Backend.plan`; a program that is missing is named as it would be on the PATH."""
        from advisor.running import shell  # noqa: PLC0415

        found = find(self.runtime)
        program = str(found.program) if found else self.runtime.program
        argv = self.argv(program, model, options)
        key = f'{self.secret}="$ADVISOR_API_KEY" ' if options.api_key and self.secret and os.name != "nt" else ""
        return LaunchPlan(
            backend=self.name,
            model=model,
            options=options,
            argv=argv,
            environment=self.environment(model, options),
            command=key + shell.quoted(argv),
            hosts=self.elsewhere(self.runtime.program, model, options),
        )

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Backend.start`; the pair is checked before, and one request answered after.

        Raises:
            NoBackend: the runtime is missing, too old for this model, or does not read such files.
            RuntimeFailed: target and drafter do not belong together, or the server does not come up.
        """
        from advisor.running import sessions  # noqa: PLC0415
        from backends.group import SLOW, Group  # noqa: PLC0415

        self._check(plan.model)
        port = plan.options.port or sessions.any_port()
        plan = self.plan(_located(plan.model), msgspec.structs.replace(plan.options, port=port))
        if not sessions.can_bind(port):
            raise RuntimeFailed(
                f"port {port} is used by another program", hint="give another one with --port, or none for a free one"
            )
        options = plan.options
        log = options.log or _own_log(self.name)
        self.before(plan)
        environment = dict(plan.environment)
        if options.api_key and self.secret:
            environment[self.secret] = options.api_key

        def told(pid: int) -> None:
            watch.spawned(self._endpoint(plan, pid, log))

        group = Group(plan.argv, log, environment, attached=not options.detached, spawned=told, patience=SLOW)
        endpoint = self._endpoint(plan, group.pid, log)
        self._running[group.pid] = group
        try:
            self._wait_ready(group, plan, watch)
            self._warm_up(group, plan, endpoint)
        except BaseException:
            self._running.pop(group.pid, None)
            group.stop()
            raise
        return endpoint

    def before(self, plan: LaunchPlan) -> None:
        """What has to be done before the server starts. Default: nothing."""

    def _endpoint(self, plan: LaunchPlan, pid: int, log: Path) -> Endpoint:
        return Endpoint(
            base_url=f"http://{plan.options.host}:{plan.options.port}/v1",
            model=self.served_name(plan.model),
            backend=self.name,
            pid=pid,
            name=plan.model.name,
            log=log,
            drafter=plan.model.draft_tokens > 0 and (plan.model.drafter is not None or self.one_file),
            api_key=plan.options.api_key,
        )

    def served_name(self, model: Model) -> str:
        """What the server calls its model."""
        return model.name

    def _check(self, model: Model) -> None:
        found, runtime = self.detect(), self.runtime
        if not found.available:
            raise NoBackend(f"{runtime.name} cannot be used here: {found.why_not}", hint=found.hint or "")
        if reason := self.refusal(model):
            raise NoBackend(reason, hint="llama.cpp and the native engine read GGUF files", command="advisor backends")
        least = runtime.least(model.name)
        if model.drafter and not reaches(found.version or "", least):
            raise NoBackend(
                f"{runtime.name} {found.version} is too old for {model.name} with its drafter: {least} is the first",
                hint=f"{found.hint or runtime.install_line(system())} --upgrade, or launch with --no-drafter",
            )
        self.check_files(_located(model))

    def check_files(self, model: Model) -> None:
        """Whether target and drafter belong together.

        Raises:
            RuntimeFailed: they do not, or are not here.
        """
        from backends import checkpoint  # noqa: PLC0415

        checkpoint.check(model.target, model.drafter, multimodal=self.multimodal_only)

    def _wait_ready(self, group: Group, plan: LaunchPlan, watch: Watch) -> None:
        """Wait as long as it lives: compiling and loading take minutes. Another's server that took the port meanwhile
        answers as well, and then this one ends."""
        import httpx  # noqa: PLC0415

        from advisor.running.processes import listens  # noqa: PLC0415

        url = f"http://{plan.options.host}:{plan.options.port}"
        begun = time.monotonic()
        with httpx.Client(base_url=url, timeout=ASK_S, trust_env=False) as http:
            while group.alive:
                with contextlib.suppress(httpx.HTTPError):
                    if self.ready(http) and listens(group.pid, plan.options.port):
                        return
                watch.progress(f"starting {self.runtime.name}", int(time.monotonic() - begun), None)
                time.sleep(POLL_S)
        raise self._died(group, plan.model)

    def ready(self, http: httpx.Client) -> bool:
        """Whether the server says that it is."""
        return bool(http.get(self.health).is_success)

    def _warm_up(self, group: Group, plan: LaunchPlan, endpoint: Endpoint) -> None:
        """One short answer: some servers are healthy and die of the first."""
        from advisor.errors import AdvisorError  # noqa: PLC0415

        # Its client waits as long as a server lives, and this one may be healthy and hang.
        late = threading.Event()

        def give_up() -> None:
            late.set()
            group.stop()

        limit = threading.Timer(WARM_UP_S, give_up)
        limit.daemon = True
        limit.start()
        try:
            with self.client(endpoint) as client:
                list(client.chat([{"role": "user", "content": WARM_UP}], temperature=0, max_tokens=WARM_UP_TOKENS))
        except AdvisorError as error:
            if late.is_set():
                raise RuntimeFailed(
                    f"{self.runtime.name} is healthy, and gave no first answer in {WARM_UP_S / 60:.0f} minutes",
                    hint=f"its log is {group.log}",
                ) from None
            code = group.ended()
            if code is None and not self.dying(endpoint):
                raise RuntimeFailed(
                    f"{self.runtime.name} answers no request: {error.message}", hint=f"its log is {group.log}"
                ) from None
            raise self._died(group, plan.model) from None
        finally:
            limit.cancel()

    def dying(self, endpoint: Endpoint) -> bool:  # noqa: ARG002
        """Whether a server that still runs has lost its engine. Default: nobody can tell."""
        return False

    # ---- While it runs

    @abc.abstractmethod
    def stats(self, endpoint: Endpoint) -> Stats: ...

    def client(self, endpoint: Endpoint) -> Client:
        """Advisor's client, with the speed by the clock and the drafts by this runtime's counters."""
        from backends.counting import CountingClient  # noqa: PLC0415

        return CountingClient(self, endpoint)

    def fields(self, endpoint: Endpoint) -> dict[str, Any]:  # noqa: ARG002
        """What requests need so that replies count drafts. Default: nothing."""
        return {}

    def counted(self, chunk: Mapping[str, Any]) -> tuple[int, int] | None:  # noqa: ARG002
        """Drafted and accepted tokens, where a chunk of a stream says it. Default: none does."""
        return None

    def page(self, endpoint: Endpoint, path: str) -> str:
        """What the server answers there.

        Raises:
            RuntimeFailed: it does not answer.
        """
        import httpx  # noqa: PLC0415

        from advisor.running.client import authorized  # noqa: PLC0415

        url = endpoint.base_url.removesuffix("/v1") + path
        try:
            reply = httpx.get(url, timeout=ASK_S, trust_env=False, headers=authorized(endpoint.api_key))
        except httpx.HTTPError:
            raise self.cause(endpoint) from None
        return reply.text if reply.is_success else ""

    def why_plain(self, endpoint: Endpoint) -> str:  # noqa: ARG002
        """Why a server that was given a drafter does not draft."""
        return f"{self.runtime.name} drafted nothing and does not say why; its log may"

    # ---- The end

    def cause(self, endpoint: Endpoint) -> RuntimeFailed:
        """Why an endpoint no longer answers; what is left of its group is ended."""
        from backends import logs, roots  # noqa: PLC0415

        group = self._running.get(endpoint.pid or 0)
        if group is not None and (not group.alive or self.dying(endpoint) or group.ended() is not None):
            return self._died(group, None)
        # Of a server that another advisor started only its log can tell.
        log = endpoint.log
        said = roots.line(logs.tail(log)) if log else ""
        text = f"{self.runtime.name} at {endpoint.base_url} does not answer"
        return RuntimeFailed(f"{text}: {said}" if said else text, hint=f"its log is {log}" if log else "")

    def _died(self, group: Group, model: Model | None) -> RuntimeFailed:
        from backends import roots  # noqa: PLC0415

        code = group.ended()
        group.stop()
        return roots.explain(self.runtime.name, group.log, code, draft=bool(model and model.drafter))

    def stop(self, endpoint: Endpoint) -> None:
        from backends import group  # noqa: PLC0415

        own = self._running.pop(endpoint.pid or 0, None)
        if own is not None:
            own.stop()
        elif endpoint.pid:
            group.end(endpoint.pid, *group.SLOW)


def system() -> str:
    """This system, as the profiles name it."""
    return SYSTEMS.get(sys.platform, "linux")


def _located(model: Model) -> Model:
    """The model with the folders that its repositories have here; as it is, where they are not."""
    from backends import checkpoint  # noqa: PLC0415

    return msgspec.structs.replace(
        model,
        target=checkpoint.local(model.target) or model.target,
        drafter=(checkpoint.local(model.drafter) or model.drafter) if model.drafter else None,
    )


def _own_log(name: str) -> Path:
    handle, path = tempfile.mkstemp(prefix=f"advisor-{name}-", suffix=".log")
    os.close(handle)
    return Path(path)
