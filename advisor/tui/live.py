"""What runs and is talked to: its session, what it should need, how it is asked, and what was said."""

from __future__ import annotations

from dataclasses import dataclass, field

from advisor.running.order import ADAPTS, Setup
from advisor.running.sessions import Session
from advisor.running.starting import Proof
from advisor.tui.talk import Talk
from backends.base import Backend


@dataclass
class Live:
    """A session and all that the wizard knows of it. `setup`: what it was started from; None where it ran before, and
    nobody asked yet."""

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
    def can_begin_again(self) -> bool:
        """Whether it is known how it was started."""
        return self.setup is not None or bool(self.session.command)

    @property
    def untried(self) -> str:
        """Why its drafter cannot be tried; empty where it can."""
        if not self.session.drafter:
            return self.setup.drafter_reason if self.setup else f"{self.session.name} was started without a drafter"
        if not self.can_begin_again:
            return f"nothing is known of how {self.session.name} was started"
        if not self.backend.drafts_per_request and not self.session.detached:
            # To compare lengths it would have to end, and whoever waits for it would see that.
            return f"{self.session.name} belongs to the terminal that started it"
        return ""

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
