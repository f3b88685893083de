"""The assistant inside Transformers' loop: how many tokens it guesses, how many of them it guessed, and what it says of
their odds.

Transformers returns no counts. A guess is one call of the assistant, so its calls are counted; and a round's tokens are
the accepted guesses and one of the target's own. Nothing of this takes private names.
"""

from __future__ import annotations

import math
from typing import Any

from backends.native.depth import AUTO

FIRST = 3
"""Guesses a round that Transformers' own schedule begins with."""


class Assistant:
    """A drafter that counts.

    Args:
        model: as Transformers loads it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.drafted = 0
        """Since `begin`, or the last `taken`."""
        self._sampled = self._adapts = False
        model.register_forward_hook(self._guessed)

    def begin(self, draft_tokens: int, *, sampled: bool) -> None:
        """Before an answer.

        Args:
            draft_tokens: guesses a round; AUTO: Transformers' own schedule, which goes on from answer to answer.
            sampled: whether its tokens are drawn.
        """
        self.drafted, self._sampled = 0, sampled
        settings = self.model.generation_config
        # Only the assistant's own configuration is read: what `generate` is told of lengths has no effect.
        if draft_tokens != AUTO:
            settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = draft_tokens, "constant"
        elif not self._adapts:
            settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = FIRST, "heuristic"
        self._adapts = draft_tokens == AUTO

    def taken(self) -> int:
        """Tokens guessed since the last time."""
        found, self.drafted = self.drafted, 0
        return found

    def _guessed(self, _model: Any, _inputs: Any, output: Any) -> Any:
        self.drafted += 1
        if not self._sampled:
            return None
        # It always guesses its best token, but Transformers takes that for one drawn from these scores and would
        # accept too much: answers would not have the target's distribution. With all odds on the token they have.
        best = output.logits.argmax(dim=-1, keepdim=True)
        output.logits = output.logits.new_full(output.logits.shape, -math.inf).scatter(-1, best, 0.0)
        return output
