"""What runs already: one line each; Enter or a click opens it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets.option_list import Option

from advisor.running.sessions import Session
from advisor.tui.widgets.drawn import LABEL
from advisor.tui.widgets.options import Options


class SessionList(Options):
    """As high as there are sessions; nothing where there are none."""

    HELP = """
What runs on this machine already, whoever started it. **Enter** or a click opens one: to talk to it, to try its
drafter, or to stop it.
"""

    def __init__(self) -> None:
        super().__init__(compact=True)
        self.display = False
        self.sessions: Sequence[Session] = ()

    def show(self, found: Sequence[Session]) -> None:
        """List these."""
        at = self.highlighted
        self.sessions = found
        self.clear_options()
        self.add_options(Option(line(one, first=index == 0)) for index, one in enumerate(found))
        self.highlighted = min(at or 0, len(found) - 1) if found else None
        self.display = bool(found)


def line(session: Session, *, first: bool) -> Content:
    """`Running   12b on llama.cpp, http://127.0.0.1:8080/v1`."""
    label = f"{'Running' if first else '':<{LABEL}}"
    said = f"{session.model} on {session.backend}, {session.base_url or session.status}"
    return Content.assemble((label, "$foreground-muted"), said)
