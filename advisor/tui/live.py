"""What runs and is talked to: its session, what it should need, how it is asked, and what was said."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from advisor.order import ADAPTS, Order, Setup, drafts_in
from advisor.sessions import Session
from advisor.starting import Proof
from advisor.tui.talk import Talk
from backends.base import Backend

if TYPE_CHECKING:
    from advisor.tui.errand import Errand

SAME = ("model", "backend", "quant", "context", "drafter", "projector", "force", "kv_type", "parallel", "threads",
        "gpu_layers", "gpu", "memory", "extra")  # fmt: skip
"""What an order and the options of `advisor launch` have in common."""


@dataclass
class Live:
    """A session and all that the wizard knows of it. `setup`: what it was started from; None where it ran before."""

    session: Session
    backend: Backend
    setup: Setup | None = None
    proof: Proof | None = None
    talk: Talk = field(default_factory=Talk)

    def __post_init__(self) -> None:
        if self.can_choose_drafts:
            self.talk.drafts = self.session.draft_tokens
        if self.session.model == "demo":
            self.talk.temperature = 0.0

    @property
    def expected_bytes(self) -> int | None:
        """What it should need in all."""
        return self.setup.expected_bytes if self.setup else None

    @property
    def expected_tokens_per_s(self) -> float | None:
        return self.setup.expected_tokens_per_s if self.setup else None

    @property
    def can_choose_drafts(self) -> bool:
        """Whether each request says how many tokens are drafted."""
        return self.session.drafter and self.backend.drafts_per_request

    def keep(self, length: int) -> None:
        """Draft so many tokens from now on."""
        if self.can_choose_drafts:
            self.talk.drafts = length


def drafts_in_words(length: int | None) -> str:
    """`3 a round`, `as many as pay`, `none`."""
    if length == ADAPTS:
        return "as many as pay"
    return f"{length} a round" if length else "none"


def order(command: str) -> Order:
    """What a command line of `advisor launch` orders; it goes on when the wizard is left."""
    from advisor.commands.launch import command as launch  # noqa: PLC0415

    given = launch.make_context("advisor launch", shlex.split(command)[2:]).params
    return Order(
        **{name: given[name] for name in SAME},
        use_drafter=not given["no_drafter"],
        draft_tokens=drafts_in(given["draft_tokens"]),
        port=given["port"] or 0,
        detached=True,
    )


def demo() -> Errand:
    """The errand of the embedded pair: nothing to fetch, nothing to decide.

    Raises:
        RuntimeFailed: this installation is incomplete.
    """
    from advisor.demo import NAME, pair  # noqa: PLC0415
    from advisor.store import File, Role  # noqa: PLC0415
    from advisor.tui.errand import Errand  # noqa: PLC0415

    found = pair()
    roles: tuple[Role, ...] = ("target", "drafter")
    paths = dict(zip(roles, (found.target, found.drafter), strict=True))
    files = tuple(
        File(role=role, repo="", file=path.name, size=path.stat().st_size, path=path, source="part of advisor")
        for role, path in paths.items()
        if path is not None
    )
    return Errand(files=files, missing=0, free=0, folder="", licence="Apache-2.0", command=f"advisor launch {NAME}")
