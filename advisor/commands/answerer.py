"""What `advisor run` asks: a session that runs, or a model that is started for one answer and gone afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from advisor.choice.estimate import DEFAULT_CONTEXT
from advisor.commands.launch import LOOKING, ended_by_signals, fetch, running_session
from advisor.console.printer import Printer
from advisor.console.progress import busy
from advisor.errors import UsageError
from advisor.files import gguf, pairing
from advisor.running import checkpoints, demo, launching, sessions
from advisor.running.attachments import Content
from advisor.running.client import Client, Done, Text, Timings, joined, running
from advisor.running.demo import Answer, collect, compare
from advisor.running.order import ADAPTS, AUTO, DEMO, DRAFT_TOKENS, NATIVE, Order, is_file
from advisor.running.sessions import Session
from backends.base import Backend, Model, Options, load, usable

CONTEXT_STEP = 4096
BYTES_PER_TOKEN = 2
"""A low guess (prose has about four, code three) for all but digits, which are tokens of their own. The context is
sized before the model can count."""
ROOM = 2048
"""Tokens kept for an answer whose length nobody limits."""
PAIRS = 3


class Answerer:
    """A model that answers. `draft_tokens`: a round, as it was set; -1 adapts.

    Args:
        extra: fields of every request.
    """

    def __init__(self, client: Client, backend: Backend, model: str, draft_tokens: int, extra: dict[str, Any]) -> None:
        self.client, self.backend, self.model, self.draft_tokens = client, backend, model, draft_tokens
        self._extra = extra

    def ask(self, prompt: Content, shown: Printer, *, raw: bool, **options: Any) -> Answer:
        """One answer, shown as it comes. `raw`: the text goes on as it is."""
        try:
            return collect(
                self._events(prompt, raw=raw, **self._extra | options),
                lambda piece: shown.show(piece.text, thought=piece.thought),
            )
        finally:
            shown.end()

    def gain(self, prompt: Content, timings: Timings, *, raw: bool) -> float | None:
        """The drafter's speed against plain decoding, for this very prompt; None where requests cannot choose."""
        if not timings.draft_n or not self.backend.drafts_per_request:
            return None
        length = comparable(timings.predicted_n or 0, timings.predicted_per_second)

        def ask(drafts: int) -> Iterator[Text | Done]:
            asked = AUTO if drafts == ADAPTS else drafts
            return self._events(prompt, raw=raw, temperature=0, max_tokens=length, draft_tokens=asked)

        return compare(ask, draft_tokens=self.draft_tokens, pairs=PAIRS).gain

    def _events(self, prompt: Content, *, raw: bool, **options: Any) -> Iterator[Text | Done]:
        if raw and isinstance(prompt, str):
            return self.client.complete(prompt, **options)
        return self.client.chat([{"role": "user", "content": prompt}], **options)


@contextlib.contextmanager
def answerer(order: Order, prompt: str, max_tokens: int | None) -> Iterator[Answerer]:
    """Whatever answers for the block; what was started for it is gone afterwards.

    Raises:
        AdvisorError: there is none, or it cannot be started.
    """
    session = _running(order)
    with ended_by_signals():
        if session is not None:
            backend, extra = usable(session.backend), _request(order, session)
            with joined(backend, session.endpoint) as client:
                yield Answerer(client, backend, session.model, session.draft_tokens, extra)
        elif not checkpoints.reads(order.backend) and _by_file(order.model):
            with _of_files(order, prompt, max_tokens) as found:
                yield found
        else:
            with _of_catalogue(order, tokens_for(prompt, max_tokens)) as found:
                yield found


def _by_file(model: str | None) -> bool:
    """Whether MODEL needs no catalogue: the demo, or a file."""
    return model in (None, DEMO) or is_file(model or "")


# ---- A session that runs


def _running(order: Order) -> Session | None:
    """The session that is meant, if one is.

    Raises:
        UsageError: several run, and none was named.
    """
    if order.model is None:
        return sessions.find() if sessions.running() and order.backend is None else None
    session = sessions.serving(order.model)
    return session if session is not None and order.backend in (None, session.backend) else None


def _request(order: Order, session: Session) -> dict[str, Any]:
    """What of the order can still be asked of a session.

    Raises:
        UsageError: it was decided when the session was started.
    """
    given = {"--drafter": order.drafter, "--threads": order.threads, "--gpu-layers": order.gpu_layers}
    late = [option for option, value in given.items() if value is not None]
    drafts = order.draft_tokens if order.use_drafter else 0
    if drafts is not None and not load(session.backend).drafts_per_request:
        late.append("--draft-tokens" if order.use_drafter else "--no-drafter")
    if late:
        raise UsageError(
            f"{late[0]} comes too late: {session.name} runs already, on {session.backend}",
            hint="leave it out, or stop the session and let this one start a model of its own",
            command=f"advisor stop {session.name}",
        )
    return {} if drafts is None else {"draft_tokens": drafts}


# ---- A model that is started


@contextlib.contextmanager
def _of_files(order: Order, prompt: str, max_tokens: int | None) -> Iterator[Answerer]:
    """The demo, or files of the user's own: on the native engine there is nothing to find out before."""
    name = order.backend or NATIVE
    model = fitted(suited(find_model(order), name), tokens_for(prompt, max_tokens))
    backend = usable(name)
    plan = backend.plan(model, Options(threads=order.threads, gpu_layers=order.gpu_layers))
    with contextlib.ExitStack() as stack:
        with busy(f"starting {name} with {model.target.name}"):
            client = stack.enter_context(running(backend, plan))
        yield Answerer(client, backend, model.name, model.draft_tokens, {})


@contextlib.contextmanager
def _of_catalogue(order: Order, tokens: int) -> Iterator[Answerer]:
    """A size of the catalogue, fetched and placed as `advisor launch` does it."""
    if order.drafter == gguf.LOOKUP:
        raise UsageError("--drafter lookup is for the demo and for files", hint="sizes come with their own drafter")
    order = msgspec.structs.replace(order, context=tokens if tokens > DEFAULT_CONTEXT else None)
    with busy(LOOKING):
        setup = launching.configure(order)
    backend = usable(setup.backend)
    fetch(setup)
    with running_session(backend, setup) as session, joined(backend, session.endpoint) as client:
        keep = f"`advisor launch {order.model} --detach` keeps it"
        click.secho(f"({session.model} on {session.backend}, for this answer only; {keep})", dim=True, err=True)
        yield Answerer(client, backend, session.model, session.draft_tokens, {})


def find_model(order: Order) -> Model:
    """The files of the demo or of a path; a drafter that is here is used, and said to be.

    Raises:
        RuntimeFailed: a file is missing or damaged.
    """
    tokens = ADAPTS if order.draft_tokens is None else order.draft_tokens
    if order.model in (None, DEMO):
        model = demo.pair(drafter=order.use_drafter)
        drafter = order.drafter or model.drafter
    else:
        path = Path(order.model or "").expanduser()
        model = Model(name=path.stem, target=path)
        drafter = order.drafter or (_found(path) if order.use_drafter else None)
    use = order.use_drafter and drafter is not None
    return msgspec.structs.replace(model, drafter=drafter if use else None, draft_tokens=tokens if use else 0)


def _found(target: Path) -> Path | None:
    match = pairing.find(target)
    if match is None:
        return None
    click.secho(f"drafter: {match.words}", dim=True, err=True)
    return match.path


def suited(model: Model, backend_name: str) -> Model:
    """The model with a number of drafts that the backend takes."""
    if backend_name == NATIVE or model.draft_tokens != ADAPTS:
        return model
    return msgspec.structs.replace(model, draft_tokens=DRAFT_TOKENS)


def fitted(model: Model, tokens: int) -> Model:
    """The model with a context that holds so many tokens, as far as it was trained for.

    Raises:
        RuntimeFailed: the file is not what it should be.
    """
    header, _ = gguf.pair(model.target, model.drafter)
    return msgspec.structs.replace(model, context_tokens=min(tokens, header.context_length or tokens))


def tokens_for(prompt: str, max_tokens: int | None) -> int:
    """How long a context holds prompt and answer."""
    digits = sum(map(str.isdigit, prompt))
    needed = digits + (len(prompt.encode(errors="replace")) - digits) // BYTES_PER_TOKEN + (max_tokens or ROOM)
    return -(-needed // CONTEXT_STEP) * CONTEXT_STEP


def comparable(tokens: int, per_second: float | None) -> int:
    """Tokens to generate for a comparison with plain decoding: enough to tell, over in seconds on a slow machine."""
    return max(8, min(tokens, int(2 * (per_second or 0)), 128))
