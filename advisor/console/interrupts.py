"""Ctrl-c: the first one ends what goes on; one that comes while that is cleaned up changes nothing.

Cleaning up is bounded by those who do it, and done by halves it would leave a server, or a file of one. Imports nothing
heavy: it is in place before the command line is read.
"""

from __future__ import annotations

import signal
import sys


class CtrlC(KeyboardInterrupt):
    """What ctrl-c raises here.

    A plain KeyboardInterrupt that leaves `exec` or `eval` of a text, as where a dataclass is being made, is remembered
    by CPython: `python -m` dies of SIGINT at its end, whoever caught it since and whatever the exit code
    (`run_eval_code_obj` in Python/pythonrun.c). It asks for that very class, so one of our own is not.
    """


def heed() -> None:
    """From now on ctrl-c raises CtrlC; where whoever started this ignores it (`nohup`, a script's `&`), so do we."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def ignore() -> None:
    """For the end: all is done, and Python's own cleaning up would be told as a failure."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def interrupt(_number: int, _frame: object) -> None:
    """A signal's handler.

    Raises:
        CtrlC: nothing that was interrupted is being cleaned up.
    """
    if not behind(sys.exc_info()[1]):
        raise CtrlC


def behind(raised: BaseException | None) -> bool:
    """Whether ctrl-c led to this exception: some are raised in the place of another, as by `__set_name__`."""
    while raised is not None:
        if isinstance(raised, KeyboardInterrupt):
            return True
        raised = raised.__cause__ or raised.__context__
    return False
