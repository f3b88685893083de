"""What vLLM and SGLang have in common: counters on a page, and servers that run already, for others too.

Such a server is used and left as it is: its models are looked up, its counters say whether it drafts, and nothing here
ever ends it.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from advisor.errors import NoBackend, RuntimeFailed, UsageError
from advisor.machine import Availability, Gpu, Record
from backends.base import UNWATCHED, Endpoint, LaunchPlan, Model, Options, Verdict, Watch
from backends.installed import reaches
from backends.listening import listens
from backends.served import Served

KEY_HINT = "give its key with --api-key, or in $ADVISOR_API_KEY"
CARDS = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES"}
"""The variables that show a program some cards only."""


class There(Record, frozen=True, kw_only=True):
    """A model of a server that runs already. `root`: the checkpoint, as the server was given it. `context_tokens`: 0
    where it does not tell."""

    name: str
    root: str
    context_tokens: int
    version: str = ""


class Metered(Served):
    """A runtime with a page of counters."""

    # ---- A server of somebody else's

    def detect(self) -> Availability:
        """As `Served.detect`; where a running server is named, whether it takes connections."""
        given = os.environ.get(self.runtime.address, "")
        if not given:
            return super().detect()
        try:
            url = address(given)
        except UsageError as error:
            return Availability(
                name=self.name, available=False, reads="checkpoint", why_not=error.message, hint=self.runtime.address
            )
        there = listens(url)
        return Availability(
            name=self.name,
            available=there,
            drafter=there,
            reads="checkpoint",
            path=url,
            why_not=None if there else f"no server answers at {url}",
            hint=None if there else f"start it, or unset {self.runtime.address}",
        )

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        if options.container:
            return self._contained(model, options)
        if not options.server:
            return self._with_cards(super().plan(model, options))
        url = address(options.server)
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
        within = msgspec.structs.replace(options, host=container.ANY, port=container.PORT)
        words = self.argv(self.runtime.program, container.inside(model), within)[1:]
        argv = (*container.before(self.runtime, model, options, self.secret), *words)
        key = f'{self.secret}="$ADVISOR_API_KEY" ' if options.api_key and self.secret else ""
        return LaunchPlan(backend=self.name, model=model, options=options, argv=argv, command=key + shell.quoted(argv))

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
        found = self.there(options.server, *filter(None, [plan.model.name]), key=options.api_key)
        endpoint = Endpoint(
            base_url=f"{address(options.server)}/v1",
            model=found.name,
            backend=self.name,
            pid=0,
            name=plan.model.name or found.name,
            api_key=options.api_key,
        )
        return msgspec.structs.replace(endpoint, drafter=self.drafts(endpoint))

    def there(self, server: str, *names: str, key: str | None = None) -> There:
        """The model of a running server: the one of these names, or the only one.

        Args:
            names: what it may be called; its own name or its checkpoint's.

        Raises:
            UsageError: the address is none, or the server does not have the model, or has several.
            RuntimeFailed: it does not answer, or is something else, or too old.
        """
        url = address(server)
        models = _listed(url, key)
        owners = {str(each.get("owned_by", "")) for each in models}
        if models and self.name not in owners:
            raise RuntimeFailed(
                f"the server at {url} is not {self.runtime.name}: its models belong to {', '.join(sorted(owners))}"
            )
        ids = [str(each.get("id", "")) for each in models]
        chosen = [each for each in models if not names or {each.get("id"), each.get("root")} & set(names)]
        if len(chosen) != 1:
            which = (
                f"has no model {names[0]!r}" if names and not chosen else f"has {len(chosen)} models that may be meant"
            )
            raise UsageError(
                f"{self.runtime.name} at {url} {which}",
                hint=f"it has {', '.join(ids) or 'none'}",
            )
        told = chosen[0]
        version = self._version(url, key)
        if not reaches(version, self.runtime.floor):
            raise RuntimeFailed(
                f"{self.runtime.name} {version} at {url} is too old for Gemma's drafter: "
                f"{self.runtime.floor} is the first"
            )
        length = told.get("max_model_len")
        return There(
            name=str(told.get("id")),
            root=str(told.get("root") or told.get("id")),
            context_tokens=length if isinstance(length, int) else 0,
            version=version,
        )

    def _version(self, url: str, key: str | None) -> str:
        """What the server calls its version; empty where it does not tell."""
        try:
            told = msgspec.json.decode(_got(url + "/version", key))
        except (msgspec.DecodeError, RuntimeFailed):
            return ""
        return str(told.get("version", "")) if isinstance(told, dict) else ""

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

    def drafting(self, endpoint: Endpoint) -> Verdict | None:
        """By the counters since the server started, where an answer itself counted no drafts."""
        found = self.stats(endpoint)
        if found.unknown:
            return Verdict(active=None, reason=f"whether it drafts is unknown: {found.unknown}")
        if not found.drafted:
            return None
        right = f"{found.accepted / found.drafted:.0%}"
        return Verdict(active=True, reason=f"{right} of {found.drafted:,} drafts were right since the server started")


def address(text: str) -> str:
    """A server's address as it is asked: `host:port` or a URL, with `/v1` at its end or without.

    Raises:
        UsageError: it is none.
    """
    url = text.strip().rstrip("/").removesuffix("/v1")
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or parts.scheme == "https")
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", url):
        raise UsageError(f"{text!r} is no address of a server", hint="write it like 127.0.0.1:8000")
    return url


def shown_cards(gpus: tuple[Gpu, ...]) -> dict[str, str]:
    """The variable that shows a program these cards and no others."""
    variable = CARDS.get(gpus[0].vendor) if gpus else None
    return {variable: ",".join(str(gpu.index) for gpu in gpus)} if variable else {}


def _listed(url: str, key: str | None) -> list[dict[str, Any]]:
    try:
        told = msgspec.json.decode(_got(f"{url}/v1/models", key))
        return [each for each in told["data"] if isinstance(each, dict)]
    except (msgspec.DecodeError, KeyError, TypeError):
        raise RuntimeFailed(f"what answers at {url} speaks no OpenAI API") from None


def _got(url: str, key: str | None) -> bytes:
    import httpx  # noqa: PLC0415

    from advisor.running.client import authorized  # noqa: PLC0415

    try:
        reply = httpx.get(url, timeout=5, trust_env=False, headers=authorized(key))
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise RuntimeFailed(f"no server answers at {url}: {said}", hint="--server is its address") from None
    if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise RuntimeFailed(f"the server at {url} wants an API key", hint=KEY_HINT)
    if reply.is_error:
        raise RuntimeFailed(f"{url} answers {reply.status_code}")
    return reply.content
