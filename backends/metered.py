"""What vLLM and SGLang have in common: counters on a page, and servers that run already, for others too.

Such a server is used and left as it is: its models are looked up, its counters say whether it drafts, and nothing here
ever ends it.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from advisor.errors import NoBackend, UsageError
from advisor.machine import Availability, Gpu
from backends import fitness, others
from backends.base import UNWATCHED, Endpoint, LaunchPlan, Model, Options, Stats, Verdict, Watch
from backends.installed import Installed
from backends.listening import listens
from backends.served import Served

CARDS = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES"}
"""The variables that show a program some cards only."""


class Metered(Served):
    """A runtime with a page of counters."""

    # ---- One of our own

    @abc.abstractmethod
    def serving(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        """What every host is told alike.

        Raises:
            UsageError: what it cannot do, or not together with this drafter.
        """

    @abc.abstractmethod
    def rank(self, rank: int, options: Options) -> tuple[str, ...]:
        """What joins a host to the others; the first one's rank is 0."""

    def argv(self, by: Installed, model: Model, options: Options) -> tuple[str, ...]:
        where = ("--host", options.host, "--port", str(options.port))
        joined = self.rank(0, options) if options.hosts else ()
        return (*self.serving(by, model, options), *where, *joined, *options.extra)

    def elsewhere(self, by: Installed, model: Model, options: Options) -> dict[str, str]:
        """The same server's other ranks; they listen nowhere."""
        from advisor.running import shell  # noqa: PLC0415

        words = self.serving(by, model, options)
        return {
            host: shell.quoted([*words, *self.rank(rank, options), *options.extra])
            for rank, host in enumerate(options.hosts)
            if rank
        }

    def environment(self, model: Model, options: Options) -> dict[str, str]:
        """What is here is used; of several cards those that were reckoned with."""
        return super().environment(model, options) | shown_cards(options.gpus)

    # ---- A server of somebody else's

    def detect(self) -> Availability:
        """As `Served.detect`; where a running server is named, whether it takes connections."""
        given = os.environ.get(self.runtime.address, "")
        if not given:
            return super().detect()
        try:
            url = others.address(given)
        except UsageError as error:
            return fitness.absent(self.runtime, error.message, hint=f"correct or unset {self.runtime.address}")
        if listens(url):
            return fitness.present(self.runtime, "", url)
        why = f"no server answers at {url}"
        return fitness.absent(self.runtime, why, hint=f"start it, or unset {self.runtime.address}", path=url)

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        if options.container:
            return self._contained(model, options)
        if not options.server:
            return self._with_cards(super().plan(model, options))
        url = others.address(options.server)
        asked = tuple({"method": "GET", "url": f"{url}{path}"} for path in ("/v1/models", "/metrics"))
        return LaunchPlan(
            backend=self.name, model=model, options=options, requests=asked, command=f"curl {url}/v1/models"
        )

    def _with_cards(self, plan: LaunchPlan) -> LaunchPlan:
        """What a human types names the cards too, where they are not the first ones."""
        numbers = [gpu.index for gpu in plan.options.gpus]
        if numbers == list(range(len(numbers))) or os.name == "nt":
            return plan
        words = " ".join(f"{name}={value}" for name, value in shown_cards(plan.options.gpus).items())
        return msgspec.structs.replace(plan, command=f"{words} {plan.command}".lstrip())

    def _contained(self, model: Model, options: Options) -> LaunchPlan:
        """The command of a container: the same server's, which listens on all of its own addresses."""
        from advisor.running import shell  # noqa: PLC0415
        from backends import container  # noqa: PLC0415

        if options.hosts:
            raise UsageError("several hosts are not planned with containers", hint="leave out --container or --hosts")
        image = options.container.image if options.container else ""
        by = Installed(program=Path(self.runtime.program), version=container.version(image))
        within = msgspec.structs.replace(options, host=container.ANY, port=container.PORT)
        words = self.argv(by, container.inside(model), within)[1:]
        argv = (*container.before(self.runtime, model, options, self.secret), *words)
        command = self.keyed(options) + shell.quoted(argv)
        return LaunchPlan(backend=self.name, model=model, options=options, argv=argv, command=command)

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Served.start`; a server that runs already is looked at, and nothing is started.

        Raises:
            UsageError: it does not have the model, or has several.
            RuntimeFailed: it does not answer, or is something else.
        """
        options = plan.options
        if options.container:
            raise NoBackend(
                "a container is not started by advisor", hint="type what its plan says", command=plan.command
            )
        if not options.server:
            return super().start(plan, watch)
        found = others.look(self.runtime, options.server, *filter(None, [plan.model.name]), key=options.api_key)
        endpoint = Endpoint(
            base_url=f"{others.address(options.server)}/v1",
            model=found.name,
            backend=self.name,
            pid=0,
            name=plan.model.name or found.name,
            api_key=options.api_key,
        )
        return msgspec.structs.replace(endpoint, drafter=self.drafts(endpoint))

    def drafts(self, endpoint: Endpoint) -> bool:
        """Whether a running server has a drafter, as far as it tells."""
        raise NotImplementedError

    def gone(self, endpoint: Endpoint) -> bool:
        """Whether a server that is not ours answers no more; one that wants a key or is busy answers."""
        import httpx  # noqa: PLC0415

        try:
            httpx.get(endpoint.base_url.removesuffix("/v1") + self.health, timeout=5, trust_env=False)
        except httpx.TimeoutException:
            return False
        except httpx.HTTPError:
            return True
        return False

    # ---- Counting

    def reported(
        self,
        endpoint: Endpoint,
        found: Mapping[str, float],
        drafts: tuple[int, int] | None,
        positions: tuple[float, ...] = (),
    ) -> Stats:
        """What a page of counters comes to.

        Args:
            found: the counters by name.
            drafts: drafted and accepted tokens; None where the page does not tell.
            positions: as `Stats` has them.
        """
        predicted = found.get("generation_tokens_total")
        drafted, accepted = drafts or (0, 0)
        missing = "tokens" if predicted is None else "drafts" if endpoint.drafter and drafts is None else ""
        return Stats(
            predicted_tokens=int(predicted or 0),
            drafted=drafted,
            accepted=accepted,
            accepted_per_position=positions,
            drafter_active=drafted > 0,
            memory_bytes=self.memory_bytes(endpoint),
            unknown=f"its /metrics count no {missing}" if missing else "",
        )

    def drafting(self, endpoint: Endpoint) -> Verdict | None:
        """By the counters since the server started, where an answer itself counted no drafts."""
        found = self.stats(endpoint)
        if found.unknown:
            return Verdict(active=None, reason=f"whether it drafts is unknown: {found.unknown}")
        if not found.drafted:
            return None
        right = f"{found.accepted / found.drafted:.0%}"
        return Verdict(active=True, reason=f"{right} of {found.drafted:,} drafts were right since the server started")


def shown_cards(gpus: tuple[Gpu, ...]) -> dict[str, str]:
    """The variable that shows a program these cards and no others."""
    variable = CARDS.get(gpus[0].vendor) if gpus else None
    return {variable: ",".join(str(gpu.index) for gpu in gpus)} if variable else {}
