"""Backends whose endpoint is this project's own server, in a child process: started, counted and stopped alike,
whatever computes in it.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from advisor.errors import RuntimeFailed
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Stats, Watch

if TYPE_CHECKING:
    from backends.native.process import Process


class Hosted(Backend):
    """Runs a target and its drafter in a child process that ends with this one, unless it is detached."""

    drafts_per_request = True

    def __init__(self) -> None:
        self._running: dict[int, Process] = {}

    def check(self, plan: LaunchPlan) -> None:
        """Whatever can be found wrong before a process is started. Default: nothing.

        Raises:
            NoBackend: the runtime is missing.
            RuntimeFailed: a file is wrong.
        """

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Backend.start`; what `check` finds is raised before any process is started.

        Raises:
            NoBackend: the runtime is missing.
            RuntimeFailed: a file is wrong, or the engine did not come up.
        """
        from advisor.running.client import KEY  # noqa: PLC0415
        from backends.native.process import Process  # noqa: PLC0415

        self.check(plan)
        options = plan.options
        made = functools.partial(Process, log=options.log) if options.log else Process.start
        process = made(
            plan.argv,
            attached=not options.detached,
            environment={**plan.environment, **({KEY: options.api_key} if options.api_key else {})},
            spawned=lambda one: watch.spawned(self._coming(plan, one)),
        )
        try:
            ready = process.wait_ready()
        except RuntimeFailed as error:
            process.stop()
            raise named(error, plan.model) from None
        except BaseException:
            process.stop()
            raise
        self._running[process.pid] = process
        host = f"[{ready['host']}]" if ":" in ready["host"] else ready["host"]
        return Endpoint(
            base_url=f"http://{host}:{ready['port']}/v1",
            model=ready["model"],
            backend=self.name,
            pid=process.pid,
            name=plan.model.name,
            log=process.log,
            drafter=ready["drafter"],
            api_key=options.api_key,
        )

    def _coming(self, plan: LaunchPlan, process: Process) -> Endpoint:
        """The endpoint that a process will be; with a port of its own choice, its address is not known yet."""
        options, model = plan.options, plan.model
        return Endpoint(
            base_url=f"http://{options.host}:{options.port}/v1",
            model=model.name,
            backend=self.name,
            pid=process.pid,
            name=model.name,
            log=process.log,
            drafter=model.drafter is not None,
            api_key=options.api_key,
        )

    def cause(self, endpoint: Endpoint) -> RuntimeFailed:
        """Why an endpoint no longer answers."""
        from backends.native.death import ending, last_lines  # noqa: PLC0415

        process = self._running.get(endpoint.pid or 0)
        if process is None:
            said = "; ".join(last_lines(endpoint.log)) if endpoint.log else ""
            return RuntimeFailed(ending(f"the engine at {endpoint.base_url} does not answer", said))
        return process.cause()

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`.

        Raises:
            RuntimeFailed: the engine does not answer.
        """
        import httpx  # noqa: PLC0415
        import psutil  # noqa: PLC0415

        from advisor.running.client import KEY, authorized  # noqa: PLC0415

        key = endpoint.api_key
        try:
            url = endpoint.base_url.removesuffix("/v1") + "/metrics"
            reply = httpx.get(url, timeout=5, headers=authorized(key), trust_env=False, verify=False)  # noqa: S501 - no https
            memory = psutil.Process(endpoint.pid).memory_info().rss if endpoint.pid else None
        except (httpx.HTTPError, psutil.Error):
            raise self.cause(endpoint) from None
        if reply.is_error:
            raise RuntimeFailed(
                f"the engine at {endpoint.base_url} answered {reply.status_code}",
                hint=f"its API key belongs into ${KEY}",
            )
        values = {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", reply.text, re.MULTILINE)}
        positions = sum(name.startswith("advisor_drafted_at_total") for name in values)

        def at(kind: str, position: int) -> float:
            return values[f'advisor_{kind}_at_total{{position="{position}"}}']

        tokens, seconds = int(values["advisor_predicted_tokens_total"]), values["advisor_predicted_seconds_total"]
        drafted = int(values["advisor_drafted_tokens_total"])
        return Stats(
            predicted_tokens=tokens,
            # The first token of each answer belongs to its prompt.
            predicted_per_second=(tokens - values["advisor_requests_total"]) / seconds if seconds else None,
            drafted=drafted,
            accepted=int(values["advisor_accepted_tokens_total"]),
            accepted_per_position=tuple(at("accepted", i) / at("drafted", i) for i in range(positions)),
            drafter_active=drafted > 0,
            memory_bytes=memory,
        )

    def stop(self, endpoint: Endpoint) -> None:
        from backends.group import end  # noqa: PLC0415
        from backends.native.process import LONG_GRACE  # noqa: PLC0415

        process = self._running.pop(endpoint.pid or 0, None)
        if process is not None:
            process.stop()
        elif endpoint.pid:
            end(endpoint.pid, LONG_GRACE)


def named(error: RuntimeFailed, model: Model) -> RuntimeFailed:
    """The error with the model's files in it: what a runtime says last does not say which file it was about."""
    files = [file for file in (model.target, model.drafter) if file is not None]
    if any(file.name in error.message for file in files):
        return error
    where = " with ".join(map(str, files))
    return type(error)(f"{where}: {error.message}", hint=error.hint, command=error.command)
