"""Work off the event loop: a thread does it, the loop gets the result, and a failure is shown with what to do.

The threads are daemons: whatever hangs, a driver or a server, keeps nobody from leaving. What must not be left half
done is waited for by `finished`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from textual.dom import DOMNode
from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from advisor.errors import AdvisorError

T = TypeVar("T")
_to_finish: set[threading.Thread] = set()


def background(
    node: DOMNode,
    work: Callable[[], T],
    then: Callable[[T], object],
    *,
    group: str,
    otherwise: Callable[[AdvisorError], object] | None = None,
    finish: bool = False,
) -> Worker[None]:
    """Do `work` in a thread, and `then` on the event loop with its result.

    A later call with the same group of the same node replaces an earlier one, and so does the node's removal: `then` is
    not called any more.

    Args:
        otherwise: gets what went wrong; by default it becomes a notification with its hint.
        finish: whether leaving waits for it.
    """

    async def run() -> None:
        worker: Worker[None] = get_current_worker()
        try:
            result = await in_thread(work, finish=finish)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the wizard goes on
            from advisor.cli import shown_error  # noqa: PLC0415

            error = shown_error(raised)
            deliver(worker, lambda: (otherwise or (lambda found: notify(node, found)))(error))
        else:
            deliver(worker, lambda: then(result))

    def deliver(worker: Worker[None], call: Callable[[], object]) -> None:
        node.app.call_later(lambda: call() if is_wanted(worker) else None)

    def is_wanted(worker: Worker[None]) -> bool:
        closed = isinstance(node, Screen) and node not in node.app.screen_stack
        return not worker.is_cancelled and node.is_attached and not closed

    return node.run_worker(run, group=group, exclusive=True, exit_on_error=False)


def in_thread(work: Callable[[], T], *, finish: bool = False) -> asyncio.Future[T]:
    """The result of `work`, done in a thread of its own; nobody may wait for it any more when it is there."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(change: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if done.done() else change())

    def begin() -> None:
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
            tell(lambda: done.set_exception(error))
        else:
            tell(lambda: done.set_result(result))
        finally:
            _to_finish.discard(thread)

    thread = threading.Thread(target=begin, name="background", daemon=True)
    if finish:
        _to_finish.add(thread)
    thread.start()
    return done


def finished(seconds: float) -> None:
    """Wait for what must not be left half done, no longer than so many seconds. Blocks."""
    end = time.monotonic() + seconds
    for thread in tuple(_to_finish):
        thread.join(max(0.0, end - time.monotonic()))


def notify(node: DOMNode, error: AdvisorError) -> None:
    """An error as a notification: what happened, what to do, and what to type."""
    said = [error.message, error.hint, error.command]
    node.app.notify("\n".join(line for line in said if line), title="That did not work", severity="error", markup=False)
