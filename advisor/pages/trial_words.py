"""Words for draft lengths."""

from __future__ import annotations


def length_in_words(length: int) -> str:
    """`plain`, `3`, or `auto` for a length that the backend adapts."""
    return {0: "plain", -1: "auto"}.get(length, str(length))
