"""From a process to an endpoint: until its server says that it is healthy, and has answered once.

Some servers are healthy and die of their first request, or never answer it; so "healthy" is not believed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from advisor.errors import AdvisorError, RuntimeFailed
from backends.base import Endpoint, LaunchPlan, Watch

if TYPE_CHECKING:
    from backends.group import Group
    from backends.served import Served

QUESTION = "Say in one sentence what a drafter does."
TOKENS = 24
FIRST_ANSWER_S = 900.0
"""Seconds that the first answer may take: kernels are compiled for it on some systems."""
POLL_S = 0.2
ASK_S = 5.0
"""For a question about the server itself."""


def healthy(backend: Served, group: Group, plan: LaunchPlan, watch: Watch) -> None:
    """Wait as long as it lives: compiling and loading take minutes. Another's server that took the port meanwhile
    answers as well, and then this one ends.

    Raises:
        RuntimeFailed: it ended.
    """
    import httpx  # noqa: PLC0415

    from advisor.running.processes import listens  # noqa: PLC0415

    url = f"http://{plan.options.host}:{plan.options.port}"
    begun = time.monotonic()
    with httpx.Client(base_url=url, timeout=ASK_S, trust_env=False) as http:
        while group.alive:
            with contextlib.suppress(httpx.HTTPError):
                if backend.ready(http) and listens(group.pid, plan.options.port):
                    return
            watch.progress(f"starting {backend.runtime.name}", int(time.monotonic() - begun), None)
            time.sleep(POLL_S)
    raise backend.died(group, plan.model)


def answers(backend: Served, group: Group, plan: LaunchPlan, endpoint: Endpoint) -> None:
    """Ask for one short answer.

    Raises:
        RuntimeFailed: it gives none, or died of it, with whatever code.
    """
    name, log = backend.runtime.name, f"its log is {group.log}"
    # Its client waits as long as a server lives, and this one may be healthy and hang.
    late = threading.Event()

    def give_up() -> None:
        late.set()
        group.stop()

    limit = threading.Timer(FIRST_ANSWER_S, give_up)
    limit.daemon = True
    limit.start()
    try:
        with backend.client(endpoint) as client:
            list(client.chat([{"role": "user", "content": QUESTION}], temperature=0, max_tokens=TOKENS))
    except AdvisorError as error:
        if late.is_set():
            waited = f"{FIRST_ANSWER_S / 60:.0f} minutes"
            raise RuntimeFailed(f"{name} is healthy, and gave no first answer in {waited}", hint=log) from None
        if group.ended() is None and not backend.dying(endpoint):
            raise RuntimeFailed(f"{name} answers no request: {error.message}", hint=log) from None
        raise backend.died(group, plan.model) from None
    finally:
        limit.cancel()
