"""Orders for a server that runs already: nothing is fetched or started, and what it was started with stays."""

from __future__ import annotations

import os
from pathlib import Path

from advisor.errors import UsageError
from advisor.knowledge import catalog
from advisor.knowledge.profile import Runtime
from advisor.running.order import Order, Setup
from backends.base import Model, Options


def server_of(runtime: Runtime) -> str:
    """The address of the server to use, empty where one is to be started.

    Raises:
        UsageError: it is none.
    """
    from backends.others import address  # noqa: PLC0415

    given = os.environ.get(runtime.address, "") if runtime.address else ""
    return address(given) if given else ""


def configure(order: Order, runtime: Runtime, server: str, *, strict: bool) -> Setup:
    """The model of a running server.

    Args:
        strict: whether the server is asked what it has.

    Raises:
        UsageError: it does not have the model, or what is asked for was decided when it was started.
        RuntimeFailed: it does not answer, or is something else.
    """
    from backends.others import look  # noqa: PLC0415

    _check(order, runtime)
    name = order.model or ""
    found = look(runtime, server, *_names(name), key=order.api_key) if strict else None
    return Setup(
        backend=runtime.id,
        model=Model(
            name=found.name if found else name,
            target=Path(found.root if found else name or "its-model"),
            context_tokens=found.context_tokens if found else 0,
        ),
        options=Options(server=server, detached=order.detached, api_key=order.api_key),
        drafter_reason="the server was started without one, as far as it tells",
        order=order,
        notes=(f"the server at {server} is used as it is, and left running",),
    )


def _names(model: str) -> tuple[str, ...]:
    """What a server may call a model: as it was typed, or by a repository of the catalogue's."""
    profile = catalog.load().models.get(model.lower())
    repositories = {one.repo for one in profile.checkpoints} if profile else set()
    return (model, *sorted(repositories)) if model else ()


def _check(order: Order, runtime: Runtime) -> None:
    late = {
        "--quant": order.quant,
        "--context": order.context,
        "--drafter": order.drafter,
        "--no-drafter": not order.use_drafter,
        "--draft-tokens": order.draft_tokens is not None and order.use_drafter,
        "--parallel": order.parallel > 1,
        "--kv-type": order.kv_type != "f16",
        "--hosts": order.hosts,
        "--container": order.container,
        "--port": order.port,
        "what comes after `--`": order.extra,
    }
    if given := next((name for name, value in late.items() if value), ""):
        raise UsageError(
            f"{given} was decided when the {runtime.name} server was started",
            hint=f"leave it out, or unset {runtime.address} to start another server",
        )
