"""Work off the event loop: a thread does it, the loop gets the result, and a failure is shown with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from textual.dom import DOMNode
from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from advisor.errors import AdvisorError

T = TypeVar("T")


def background(
    node: DOMNode,
    work: Callable[[], T],
    then: Callable[[T], object],
    *,
    group: str,
    otherwise: Callable[[AdvisorError], object] | None = None,
) -> Worker[None]:
    """Do `work` in a thread, and `then` on the event loop with its result.

    A later call with the same group of the same node replaces an earlier one, and so does the node's removal: `then` is
    not called any more.

    Args:
        otherwise: gets what went wrong; by default it becomes a notification with its hint.
    """

    def run() -> None:
        worker = get_current_worker()
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - whatever it is, the wizard goes on
            from advisor.cli import shown_error  # noqa: PLC0415

            error = shown_error(raised)
            deliver(worker, lambda: (otherwise or (lambda found: notify(node, found)))(error))
        else:
            deliver(worker, lambda: then(result))

    def deliver(worker: Worker[object], call: Callable[[], object]) -> None:
        if is_wanted(worker):
            node.app.call_later(lambda: call() if is_wanted(worker) else None)

    def is_wanted(worker: Worker[object]) -> bool:
        closed = isinstance(node, Screen) and node not in node.app.screen_stack
        return not worker.is_cancelled and node.is_attached and not closed

    return node.run_worker(run, thread=True, group=group, exclusive=True, exit_on_error=False)


def notify(node: DOMNode, error: AdvisorError) -> None:
    """An error as a notification: what happened, what to do, and what to type."""
    said = [error.message, error.hint, error.command]
    node.app.notify("\n".join(line for line in said if line), title="That did not work", severity="error", markup=False)
