"""Ollama as a backend: a model of its library with its drafter attached, and the proof that this very one runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import AdvisorError, NoBackend, RuntimeFailed, UsageError
from advisor.machine import Availability
from backends.base import (
    UNWATCHED,
    Backend,
    Endpoint,
    Held,
    LaunchPlan,
    Model,
    Options,
    Progress,
    Stats,
    Verdict,
    Watch,
)
from backends.listening import listens
from backends.ollama import address, versions

if TYPE_CHECKING:
    from advisor.running.client import Client
    from backends.ollama.api import Api
    from backends.ollama.making import Ready

INSTALL = "install it from https://ollama.com/download"
GET = {"darwin": "brew install ollama", "win32": "winget install Ollama.Ollama"}
SCRIPT = "curl -fsSL https://ollama.com/install.sh | sh"
"""By system; the script updates, too."""
SERVE = "ollama serve"


class Ollama(Backend):
    """Makes a model of a tag and a drafter in Ollama's library, has it loaded, and looks whether it drafts."""

    name = "ollama"
    shared = True
    waived: Mapping[str, str] = {
        "context-full": "Ollama leaves out the oldest messages of a conversation that is too long, and says so nowhere",
        "prepare-resumes": "Ollama takes a file that is sent to it from its first byte; what it pulls goes on",
    }

    def __init__(self) -> None:
        self._new: set[str] = set()

    def detect(self) -> Availability:
        """Whether the server of OLLAMA_HOST answers, and what its version can do."""
        try:
            where = address.given()
        except UsageError as error:
            return Availability(name=self.name, available=False, why_not=error.message, hint=error.hint)
        version = address.version(where)
        if version is None:
            return _silent(where)
        old = _too_old(version)
        return Availability(
            name=self.name,
            available=versions.reaches(version, versions.GEMMA4),
            version=version,
            drafter=versions.reaches(version, versions.DRAFTER),
            why_not=old or None,
            path=where.url,
            hint=versions.UPDATE if old else None,
            mend=GET.get(sys.platform, SCRIPT).replace(" install ", " upgrade ") if old and where.local else None,
            features=versions.features(version, sys.platform),
            host=None if where.local else where.host,
        )

    def reports(self) -> tuple[tuple[str, ...], ...]:
        return (("ollama", "--version"),)

    def held(self) -> tuple[Held, ...]:
        """As `Backend.held`; a look at each model tells whether a drafter is attached."""
        with _api(address.given()) as api:
            loaded = {each.name for each in api.loaded()}
            return tuple(
                Held(
                    name=each.name,
                    quant=each.quant,
                    size=each.size,
                    drafter=bool(api.show(each.name).drafters),
                    loaded=each.name in loaded,
                )
                for each in api.entries()
            )

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        """As `Backend.plan`: its Modelfile with `ollama create`, and the calls of the API. The port is the server's."""
        from backends.ollama import derived  # noqa: PLC0415

        _refuse(options)
        where = address.given()
        made = derived.recipe(model, options)
        return LaunchPlan(
            backend=self.name,
            model=model,
            options=msgspec.structs.replace(options, host=where.host, port=where.port),
            environment={address.VARIABLE: where.url},
            requests=derived.requests(made, where.url),
            command=derived.command(made),
        )

    def prepare(self, plan: LaunchPlan, progress: Progress) -> None:
        """As `Backend.prepare`: the target pulled or sent, and the model with its drafter made from it."""
        self._make(plan, progress)

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        """As `Backend.start`; what is still to be made is made first.

        Raises:
            NoBackend: the server does not run, or is too old.
            RuntimeFailed: the model does not load, or another one answers in its place.
        """
        from backends.ollama import derived, log, making, serving  # noqa: PLC0415

        where = address.given()
        found = log.find(where)
        endpoint = Endpoint(
            base_url=f"{where.url}/v1",
            model=derived.recipe(plan.model, plan.options).name,
            backend=self.name,
            pid=None,
            name=plan.model.name,
            log=found.path if found else None,
        )
        # Until it answers, it ends with this process: nothing of it lives in the server's.
        watch.spawned(endpoint)
        ready = self._make(plan, watch.progress)
        with _api(where) as api:
            try:
                serving.bring_up(api, ready, lambda: watch.progress(f"loading {ready.name}", 0, None))
            except BaseException:
                # What this process made and what cannot be used is no use to anybody.
                if ready.name in self._new:
                    making.unmake(api, ready.name)
                raise
        return msgspec.structs.replace(
            endpoint,
            model=ready.name,
            pid=0 if plan.options.detached else None,
            drafter=ready.drafter and plan.model.draft_tokens > 0,
        )

    def _make(self, plan: LaunchPlan, progress: Progress) -> Ready:
        from backends.ollama import making  # noqa: PLC0415

        where = address.given()
        with _api(where) as api:
            ready = making.make(api, plan, _version(where), progress)
        if ready.new:
            self._new.add(ready.name)
        return ready

    def client(self, endpoint: Endpoint) -> Client:
        """A client of Ollama's own API."""
        from backends.ollama.api import Api  # noqa: PLC0415
        from backends.ollama.dialect import OllamaClient  # noqa: PLC0415

        return OllamaClient(endpoint, Api(address.of(endpoint.base_url)))

    def drafting(self, endpoint: Endpoint) -> Verdict:
        """As `Backend.drafting`: by the server's log, by comparing speeds, or not to be known."""
        from backends.ollama import serving  # noqa: PLC0415

        where = address.of(endpoint.base_url)
        with _api(where) as api:
            return serving.drafting(api, endpoint.model, _version(where))

    def stats(self, endpoint: Endpoint) -> Stats:
        """As `Backend.stats`, from the server's log since the model was loaded; memory too, or of the processes.

        Raises:
            RuntimeFailed: the server does not answer.
        """
        from backends.ollama import counters  # noqa: PLC0415

        where = address.of(endpoint.base_url)
        with _api(where) as api:
            return counters.stats(where, api.show(endpoint.model).target)

    def gone(self, endpoint: Endpoint) -> bool:
        """Whether nothing listens there any more: a server that computes with all cores may be slow to answer."""
        return not listens(address.of(endpoint.base_url).url, address.REMOTE_S)

    def cause(self, endpoint: Endpoint) -> AdvisorError:
        """Why an endpoint no longer answers."""
        from backends.ollama import failures  # noqa: PLC0415

        where = address.of(endpoint.base_url)
        if address.version(where) is None:
            return failures.down(where.url)
        return RuntimeFailed(f"Ollama at {where.url} broke off the answer", hint="its log says more; ask again")

    def stop(self, endpoint: Endpoint) -> None:
        """Unload it, and nothing else that runs on its target. The server stays, and so does what was made: `remove`
        takes that away."""
        where = address.of(endpoint.base_url)
        if address.version(where) is None:
            return
        from backends.ollama import making, serving  # noqa: PLC0415

        with _api(where) as api:
            if (ready := making.found(api, endpoint.model)) and serving.is_listed(api, ready.name):
                serving.clear(api, ready)

    def remove(self, endpoint: Endpoint) -> tuple[str, ...]:
        """As `Backend.remove`: the derived model, and a bare target that was made from a file for it."""
        from backends.ollama import making  # noqa: PLC0415

        with _api(address.of(endpoint.base_url)) as api:
            return making.unmake(api, endpoint.model)

    def serve(self) -> None:
        """Start `ollama serve` at the address of OLLAMA_HOST and leave it running.

        Raises:
            NoBackend: it is not installed, or does not come up.
        """
        from backends.ollama import serving  # noqa: PLC0415

        program = address.program()
        if program is None:
            raise NoBackend("Ollama is not installed", hint=INSTALL)
        serving.start(address.given(), program)


def _refuse(options: Options) -> None:
    """What Ollama has for all its models or not at all cannot be had for one.

    Raises:
        UsageError: the options ask for it.
    """
    if options.extra:
        raise UsageError("Ollama starts its own llama-server: it takes no flags", hint="leave out what is after --")
    if options.api_key:
        raise UsageError("Ollama asks for no API key", hint="leave out --api-key; whoever reaches it may use it")
    for asked, option, variable in (
        (options.kv_type != "f16", "--kv-type", "OLLAMA_KV_CACHE_TYPE"),
        (options.sequences > 1, "--parallel", "OLLAMA_NUM_PARALLEL"),
    ):
        if asked:
            raise UsageError(
                f"Ollama has {option} for all its models at once",
                hint=f"set {variable} where `ollama serve` is started",
            )


@contextmanager
def _api(where: address.Address) -> Iterator[Api]:
    from backends.ollama.api import Api  # noqa: PLC0415 - the package takes half a second to import

    with Api(where) as api:
        yield api


def _version(where: address.Address) -> str:
    """The server's version.

    Raises:
        RuntimeFailed: it does not answer.
    """
    from backends.ollama import failures  # noqa: PLC0415

    found = address.version(where)
    if found is None:
        raise failures.down(where.url)
    return found


def _silent(where: address.Address) -> Availability:
    """Where no server answers: it does not run, is not installed, or is another machine's."""
    if not where.local:
        why, hint = f"no server answers at {where.url}", "start it there with OLLAMA_HOST=0.0.0.0, or unset OLLAMA_HOST"
        return Availability(name="ollama", available=False, why_not=why, hint=hint, host=where.host)
    program = address.program()
    if program is None:
        mend = GET.get(sys.platform, SCRIPT)
        return Availability(name="ollama", available=False, why_not="Ollama is not installed", hint=INSTALL, mend=mend)
    return Availability(
        name="ollama",
        available=False,
        why_not=f"it is installed, but no server answers at {where.url}",
        path=str(program),
        hint=f"start it: {SERVE}",
        mend=SERVE,
    )


def _too_old(version: str) -> str:
    """What this version cannot do; empty where it can do all."""
    if not versions.reaches(version, versions.GEMMA4):
        return f"this Ollama ({version}) does not know Gemma 4; {versions.words(versions.GEMMA4)} or newer does"
    if not versions.reaches(version, versions.DRAFTER):
        return (
            f"this Ollama ({version}) does not know Gemma's drafters; {versions.words(versions.DRAFTER)} or newer does"
        )
    if not versions.reaches(version, versions.ADVISED):
        return f"this Ollama ({version}) may skip drafting in silence; {versions.words(versions.ADVISED)} is advised"
    return ""
