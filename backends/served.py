"""What the backends share whose server is a program of somebody else's that reads checkpoints.

Each says its command line, where it answers that it is healthy, how it counts, and which lines of its log are the root
of a failure.
"""

from __future__ import annotations

import abc
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from advisor.errors import RuntimeFailed, UsageError
from advisor.knowledge.profile import Runtime
from advisor.machine import Availability
from backends import fitness
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Stats, Watch
from backends.installed import Installed, find, system
from backends.readiness import ASK_S

if TYPE_CHECKING:
    import httpx

    from advisor.running.client import Client
    from backends.group import Group


class Served(Backend):
    """A runtime of `profiles/runtimes.yaml`."""

    health = "/health"
    multimodal_only = False
    one_file = False
    """Whether a model is one file, with its drafter inside."""
    secret = ""
    """The environment's variable for the API key; the command line could be read by everybody."""
    uncounted = ""
    """Why the server as a whole counts nothing."""
    version_words: tuple[str, ...] = ("--version",)

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
        runtime, found = self.runtime, find(self.runtime)
        if found is not None:
            return fitness.present(runtime, found.version, str(found.program))
        said = os.environ.get(runtime.variable)
        if not said:
            return fitness.absent(runtime)
        # It hides one on the PATH.
        return fitness.absent(
            runtime,
            f"not installed where {runtime.variable} says: there is no program {said}",
            hint=f"correct or unset {runtime.variable}; {runtime.install_line(system())} installs it",
            path=said,
        )

    def reports(self) -> tuple[tuple[str, ...], ...]:
        found = find(self.runtime)
        return ((str(found.program), *self.version_words),) if found else ()

    def refusal(self, model: Model) -> str:
        """As `Backend.refusal`: no GGUF."""
        if model.target.suffix.lower() == ".gguf":
            return f"{self.runtime.name} reads checkpoints in its own format, no GGUF files"
        return ""

    # ---- Starting

    @abc.abstractmethod
    def argv(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        """Its command line.

        Args:
            by: what runs it; nothing of it need be here.
        """

    def environment(self, model: Model, options: Options) -> dict[str, str]:  # noqa: ARG002
        """What it finds there beside what this process has; a secret is not in it. Default: what is here is used and
        nothing is fetched."""
        here = all(each is None or each.exists() for each in (model.target, model.drafter))
        return {"HF_HUB_OFFLINE": "1"} if here else {}

    def elsewhere(self, by: Installed, model: Model, options: Options) -> dict[str, str]:  # noqa: ARG002
        """What is to be typed on each other host."""
        return {}

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Backend.plan`; a program that is missing is named as it would be on the PATH."""
        from advisor.running import shell  # noqa: PLC0415

        usual = Installed(program=Path(self.runtime.program))
        by = find(self.runtime) or usual
        argv = self.argv(by, model, options)
        return LaunchPlan(
            backend=self.name,
            model=model,
            options=options,
            argv=argv,
            environment=self.environment(model, options),
            command=self.keyed(options) + shell.quoted(argv),
            hosts=self.elsewhere(msgspec.structs.replace(usual, version=by.version), model, options),
        )

    def keyed(self, options: Options) -> str:
        """What a human types before the command, so that the server wants a key; empty where it wants none."""
        return f'{self.secret}="$ADVISOR_API_KEY" ' if options.api_key and self.secret and os.name != "nt" else ""

    def alone(self, options: Options) -> None:
        """For servers of one machine, without keys and with one type of cache.

        Raises:
            UsageError: more is asked for.
        """
        if options.hosts:
            raise UsageError(f"{self.runtime.name} runs on one machine", hint="vLLM divides a model among hosts")
        if options.kv_type != "f16" or options.api_key:
            raise UsageError(
                f"{self.runtime.name} is started with its own type of KV cache and without a key", hint="leave it out"
            )

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Backend.start`; the pair is checked before, and one request answered after.

        Raises:
            NoBackend: the runtime is missing, too old for this model, or does not read such files.
            RuntimeFailed: target and drafter do not belong together, or the server does not come up.
        """
        from advisor.running import sessions  # noqa: PLC0415
        from backends import checkpoint, readiness  # noqa: PLC0415
        from backends.group import SLOW, Group  # noqa: PLC0415

        fitness.check(self, self.runtime, plan.model)
        self.check_files(checkpoint.located(plan.model))
        port = plan.options.port or sessions.any_port()
        plan = self.plan(checkpoint.located(plan.model), msgspec.structs.replace(plan.options, port=port))
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
            readiness.healthy(self, group, plan, watch)
            readiness.answers(self, group, plan, endpoint)
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

    def check_files(self, model: Model) -> None:
        """Whether target and drafter belong together.

        Raises:
            RuntimeFailed: they do not, or are not here.
        """
        from backends import checkpoint  # noqa: PLC0415

        checkpoint.check(model.target, model.drafter, multimodal=self.multimodal_only)

    def ready(self, http: httpx.Client) -> bool:
        """Whether the server says that it is."""
        return bool(http.get(self.health).is_success)

    def dying(self, endpoint: Endpoint) -> bool:  # noqa: ARG002
        """Whether a server that still runs has lost its engine. Default: nobody can tell."""
        return False

    # ---- While it runs

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`. Default: nothing but memory.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        self.page(endpoint, self.health)
        return Stats(predicted_tokens=0, memory_bytes=self.memory_bytes(endpoint), unknown=self.uncounted)

    def memory_bytes(self, endpoint: Endpoint) -> int | None:
        """What its processes hold in main memory, where they are ours; what is on a GPU is not in it."""
        from backends.group import memory_bytes  # noqa: PLC0415

        return memory_bytes(endpoint.pid) if endpoint.pid else None

    def client(self, endpoint: Endpoint) -> Client:
        """Advisor's client, with the speed by the clock and the drafts by this runtime's counters."""
        from backends.counting import CountingClient  # noqa: PLC0415

        return CountingClient(self, endpoint)

    def fields(self, endpoint: Endpoint, asked: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """What requests need besides what is asked for: so that replies count drafts, or in this server's words.
        Default: nothing."""
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
            return self.died(group, None)
        # Of a server that another advisor started only its log can tell.
        log = endpoint.log
        said = roots.line(logs.tail(log)) if log else ""
        text = f"{self.runtime.name} at {endpoint.base_url} does not answer"
        return RuntimeFailed(f"{text}: {said}" if said else text, hint=f"its log is {log}" if log else "")

    def died(self, group: Group, model: Model | None) -> RuntimeFailed:
        """Why a server ended, or lost its engine; what is left of it is ended."""
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


def _own_log(name: str) -> Path:
    handle, path = tempfile.mkstemp(prefix=f"advisor-{name}-", suffix=".log")
    os.close(handle)
    return Path(path)
