"""A page of counters in Prometheus' text format, as vLLM and SGLang have one at `/metrics`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LINE = re.compile(r"^(?P<server>\w+):(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)


class Sample(NamedTuple):
    """One line. `labels`: as they are written, `engine="0",position="1"`."""

    name: str
    labels: str
    value: float

    def label(self, name: str) -> str | None:
        found = re.search(rf'\b{name}="([^"]*)"', self.labels)
        return found[1] if found else None


def samples(page: str, server: str) -> Iterator[Sample]:
    """A server's own lines, whose names begin with its name and a colon; a line that has no number is left out."""
    for each in LINE.finditer(page):
        try:
            value = float(each["value"])
        except ValueError:
            continue
        if each["server"] == server:
            yield Sample(each["name"], each["labels"] or "", value)
