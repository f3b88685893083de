"""The comparison with plain decoding notices a broken engine, however much noise it allows for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from backends.native import engine
from backends.native.acceptance import Draft, verified
from backends.native.engine import Engine
from backends.native.library import Logits
from backends.native.sampling import Sampler
from tests.engine.conftest import FULL
from tests.engine.lossless import WORDS, same, tokens

pytestmark = [pytest.mark.engine, pytest.mark.skipif(not FULL, reason="long; ADVISOR_FULL=1 runs it")]

DRAFTS, LIMIT = 3, 20
Rule = Callable[[Draft, Logits, Sampler], list[int]]


def lenient(draft: Draft, logits: Logits, sampler: Sampler) -> list[int]:
    """A guess is right where it is the target's second choice too."""
    for place, guess in enumerate(draft.tokens):
        if guess not in np.argpartition(logits[place], -2)[-2:]:
            return [*draft.tokens[:place], int(logits[place].argmax())]
    return [*draft.tokens, int(logits[-1].argmax())]


def one_too_many(draft: Draft, logits: Logits, sampler: Sampler) -> list[int]:
    """The first wrong guess is taken too."""
    found = verified(draft, logits, sampler)
    return [*found[:-1], *draft.tokens[len(found) - 1 : len(found)]] or found


def shifted(draft: Draft, logits: Logits, sampler: Sampler) -> list[int]:
    """The token after the last right guess comes from the scores before it."""
    found = verified(draft, logits, sampler)
    return [*found[:-1], int(logits[max(0, len(found) - 2)].argmax())]


@pytest.mark.parametrize("broken", [lenient, one_too_many, shifted])
def test_a_broken_rule_is_noticed(demo: Engine, broken: Rule) -> None:
    """What is kept of the cache needs no such test: llama.cpp refuses positions that do not follow each other."""
    for text in (" ".join(WORDS[at:]) for at in range(len(WORDS) // 2)):
        prompt = demo.target.model.tokenize(text, special=True, begin=True)
        plain = tokens(demo, prompt, 0, LIMIT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "verified", broken)
            found = tokens(demo, prompt, DRAFTS, LIMIT)
        if same(demo, prompt, plain, found, DRAFTS + 1, foreign=True).wrong >= 0:
            return
    pytest.fail("nothing was noticed")
