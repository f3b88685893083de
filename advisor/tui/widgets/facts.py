"""Labels on the left, sentences on the right, wrapped between words."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.reactive import reactive

from advisor.tui.widgets.drawn import LABEL, Drawn

Fact = tuple[str, str]
"""A label and what is said; the label is empty where the one above goes on."""


class Facts(Drawn):
    """A list of facts, each as high as it needs."""

    facts: reactive[tuple[Fact, ...]] = reactive((), layout=True)

    def draw(self, width: int) -> Content:
        return Content("\n").join([line for fact in self.facts for line in wrapped(*fact, width)])


def wrapped(label: str, text: str, width: int) -> list[Content]:
    """One fact; the lines after the first are indented."""
    lines = Content(text).wrap(max(12, width - LABEL))
    labels = [label, *[""] * len(lines)]
    return [
        Content.assemble((f"{shown:<{LABEL}}", "$foreground-muted"), line)
        for shown, line in zip(labels, lines, strict=False)
    ]


def listed(label: str, texts: Iterable[str]) -> list[Fact]:
    """The label once, beside the first of several texts."""
    return [(label if index == 0 else "", text) for index, text in enumerate(texts)]
