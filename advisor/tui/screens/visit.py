"""What runs already, over the first step: to talk to it, to try its drafter, or to stop it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from advisor.running.sessions import Session
from advisor.tui.dialog import Dialog
from advisor.tui.widgets.facts import Fact, Facts


class Visit(Dialog[str]):
    """`chat`, `trial` or `stop`; None: nothing."""

    HELP = """
A model that runs already, whoever started it. It can be talked to, its drafter can be tried, and it can be stopped.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "answer('chat')", "Chat", show=False, tooltip="Talk to it"),
        Binding("t", "answer('trial')", "Trial", show=False, tooltip="With and without its drafter"),
        Binding("s", "answer('stop')", "Stop it", show=False, tooltip="It ends, and its memory is free again"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def compose(self) -> ComposeResult:
        with Vertical(id="page") as page:
            page.border_title = self.session.name
            page.border_subtitle = "Esc changes nothing"
            yield Facts()
            with Horizontal(id="buttons"):
                yield Button("Chat", variant="primary", compact=True, action="screen.answer('chat')", id="chat")
                yield Button("Trial", compact=True, action="screen.answer('trial')", id="trial")
                yield Button("Stop it", compact=True, action="screen.answer('stop')", id="stop")
                yield Button("Back", compact=True, action="screen.leave")

    def on_mount(self) -> None:
        if not self.is_open:
            return
        self.query_one(Facts).facts = facts(self.session)
        for name in ("#chat", "#trial"):
            self.query_one(name, Button).disabled = not self.answers

    @property
    def answers(self) -> bool:
        """Whether it does, and is not only on its way."""
        return self.session.status == "running"

    def action_answer(self, what: str) -> None:
        """One of the three."""
        if what == "stop" or self.answers:
            self.leave(what)


def facts(session: Session) -> tuple[Fact, ...]:
    """What is known of it."""
    drafter = "with its drafter" if session.drafter else "without a drafter"
    since = session.since.replace("T", " ")[:16]
    return (
        ("Model", f"{session.model} on {session.backend}, {drafter}"),
        ("Context", f"{session.context_tokens:,} tokens"),
        ("Address", session.base_url or session.status),
        ("Since", f"{since} UTC" if "T" in session.since else since),
        *((("Started by", session.command),) if session.command else ()),
    )
