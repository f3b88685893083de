"""Which drafted tokens the target agrees with."""

from __future__ import annotations

from collections.abc import Sequence

from backends.native.library import Logits


def greedy(drafted: Sequence[int], logits: Logits) -> list[int]:
    """The tokens that plain greedy decoding would have given: the agreeing prefix of `drafted`, then the target's own.

    Args:
        drafted: the guesses, one fewer than rows.
        logits: the target's scores after the last token and after each guess, shape [len(drafted) + 1, vocabulary].
    """
    tokens: list[int] = []
    for row, guess in zip(logits, drafted, strict=False):
        tokens.append(int(row.argmax()))
        if tokens[-1] != guess:
            return tokens
    return [*tokens, int(logits[len(drafted)].argmax())]
