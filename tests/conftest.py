"""What holds for all tests."""

from __future__ import annotations

import signal

# Begun in the background (`make test &`), this ignores ctrl-c, and so would every program that is tested with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
