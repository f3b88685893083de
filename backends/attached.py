"""Runs a program that ends when standard input closes: `python attached.py PROGRAM ARGUMENT...`.

For servers that know nothing of the process that wants them: however that one ends, killed included, its end of the
pipe closes, and the server goes too. Ends as the program ended. Imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE = 2.0
NOT_STARTED = 127


def main() -> None:
    try:
        child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"error: {sys.argv[1]} cannot be started: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_STARTED)
    alone = threading.Event()

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        alone.set()
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
        child.kill()

    threading.Thread(target=wait, daemon=True, name="parent").start()
    code = child.wait()
    if alone.is_set() and os.name == "posix" and os.getpgrp() == os.getpid():
        # Workers that a server leaves behind hold its memory; the group is this guard's own.
        os.killpg(0, signal.SIGKILL)
    if code < 0 and os.name == "posix":
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
