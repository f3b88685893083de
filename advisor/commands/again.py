"""What a command line of `advisor launch` orders, and what starts a session again."""

from __future__ import annotations

import shlex

import msgspec

from advisor.errors import UsageError
from advisor.running.order import Order, drafts_in
from advisor.running.sessions import Session

SAME = ("model", "backend", "quant", "context", "drafter", "projector", "force", "kv_type", "parallel", "threads",
        "gpu_layers", "gpu", "memory", "extra")  # fmt: skip
"""What an order and the options of `advisor launch` have in common."""


def order(command: str) -> Order:
    """What a command line of `advisor launch` orders; it goes on when the wizard is left.

    Raises:
        UsageError: it is none, such as one of another version.
    """
    import click  # noqa: PLC0415

    from advisor.commands.launch import command as launch  # noqa: PLC0415 - it imports all that talks to a server

    try:
        given = launch.make_context("advisor launch", shlex.split(command)[2:]).params
    except click.ClickException as raised:
        raise UsageError(raised.format_message().rstrip("."), command="advisor launch --help") from None
    return Order(
        **{name: given[name] for name in SAME},
        use_drafter=not given["no_drafter"],
        draft_tokens=drafts_in(given["draft_tokens"]),
        port=given["port"] or 0,
        detached=True,
    )


def again(session: Session) -> Order:
    """What starts a session again as it is: with its port, its key and its draft length."""
    return msgspec.structs.replace(
        order(session.command),
        # A server that was there before keeps its own.
        port=session.port if session.pid else 0,
        api_key=session.api_key or None,
        draft_tokens=session.draft_tokens if session.drafter else 0,
    )
