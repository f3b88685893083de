"""What `advisor doctor` says of one thing."""

from __future__ import annotations

from typing import Literal

from advisor.machine import Record

Status = Literal["pass", "warn", "fail"]


class Check(Record, frozen=True, kw_only=True):
    """One thing that was tried. `mend`: what to do where it is not well; `command`: what to type."""

    name: str
    status: Status
    message: str
    mend: str = ""
    command: str = ""
