"""Prefix reuse: the same answers, less to read, also where the sliding window has passed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from backends.native.engine import Engine
from backends.native.prompt import Prompt
from backends.native.reuse import TAIL, Reuse, common
from tests.engine import lossless
from tests.engine.random_pair import WINDOW

pytestmark = pytest.mark.engine

MICRO_BATCH = 48


def answer(engine: Engine, prompt: Sequence[int], limit: int, *, drafts: int = 0, reuse: bool = True) -> list[int]:
    rounds = engine.generate(prompt, draft_tokens=drafts, max_tokens=limit, reuse=reuse)
    return [token for found in rounds for token in found.tokens]


def text(seed: int, length: int) -> list[int]:
    """Tokens of bytes and letters."""
    return [2, *(int(t) for t in np.random.default_rng(seed).integers(6, 360, length - 1))]


def test_common() -> None:
    assert common(np.array([1, 2, 3], np.int32), [1, 2, 4, 5]) == 2
    assert common(np.array([1, 2, 3], np.int32), [1, 2]) == 2
    assert common(np.array([], np.int32), [1, 2]) == 0


@pytest.mark.parametrize("drafts", [0, 3])
def test_a_conversation_reads_only_what_is_new(precise: Engine, drafts: int) -> None:
    precise.target.prefill([2])
    prompt = text(1, 40)
    for turn in range(3):
        said = answer(precise, prompt, 30, drafts=drafts)
        cached = precise.target.cached
        fresh = answer(precise, prompt, 30, drafts=drafts, reuse=False)
        assert lossless.same(precise, prompt, fresh, said, drafts + 1).wrong == -1
        answer(precise, prompt, 30, drafts=drafts)  # so that the cache holds this turn as a client would leave it
        assert cached >= (turn > 0) * (len(prompt) - 20 - 1)
        prompt = [*prompt, *said, *text(turn + 2, 20)]


def test_the_same_prompt_again_reads_one_token(precise: Engine) -> None:
    prompt = text(7, 30)
    first = answer(precise, prompt, 8, reuse=False)
    assert answer(precise, prompt, 8) == first
    assert precise.target.cached == len(prompt) - 1


@pytest.mark.parametrize("dropped", [20, WINDOW + MICRO_BATCH + 100])
def test_history_that_changes_behind_the_window(precise: Engine, dropped: int) -> None:
    """A long answer is replaced, as when its thoughts are dropped: the checkpoint before it serves."""
    prompt = text(11, 400)
    answer(precise, prompt, dropped, reuse=False)
    answer(precise, prompt, dropped)
    changed = [*prompt, *text(12, 30)]
    said = answer(precise, changed, 40)
    assert precise.target.cached in (len(prompt), len(prompt) - TAIL)
    fresh = answer(precise, changed, 40, reuse=False)
    assert lossless.same(precise, changed, fresh, said, 1).wrong == -1


def test_without_a_checkpoint_it_reads_again(precise: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precise.target, "reuse", Reuse(precise.target.context, most_bytes=0))
    prompt = text(11, 400)
    answer(precise, prompt, 200)
    changed = [*prompt[:100], *text(12, 30)]
    said = answer(precise, changed, 40)
    assert precise.target.cached == 0
    assert said == answer(precise, changed, 40, reuse=False)


def test_random_edits(precise: Engine) -> None:
    """Whatever part of the history changes, the answer is the one of a fresh reading."""
    random = np.random.default_rng(5)
    prompt = text(20, 300)
    kept = 0
    for _ in range(8):
        cut = int(random.integers(1, len(prompt)))
        prompt = [*prompt[:cut], *text(int(random.integers(1000)), int(random.integers(5, 200)))[1:]]
        said = answer(precise, prompt, 24, drafts=int(random.integers(0, 4)))
        kept += precise.target.cached > 0
        points = precise.target.reuse.checkpoints
        precise.target.reuse.checkpoints = []
        # A fresh reading in a cache of its own would be best; here what it leaves behind is as good as what it found.
        fresh = answer(precise, prompt, 24, reuse=False)
        assert lossless.same(precise, prompt, fresh, said, 4).wrong == -1
        answer(precise, prompt, 24)
        assert len(points) <= 4
    assert kept


def test_a_stopped_prompt_is_gone_on_with(precise: Engine) -> None:
    prompt = text(30, 300)
    asked = iter([False, False, False, True])  # after one token that is there already
    precise.target.prefill([2])
    assert precise.target.prefill(prompt, lambda: next(asked), reuse=True) is None
    assert precise.target.length == 1 + 3 * MICRO_BATCH
    said = answer(precise, prompt, 10)
    assert precise.target.cached == 1 + 3 * MICRO_BATCH
    assert said == answer(precise, prompt, 10, reuse=False)


def scores(engine: Engine, prompt: Sequence[int], *, reuse: bool = False) -> npt.NDArray[np.float32]:
    found = engine.target.prefill(prompt, reuse=reuse)
    assert found is not None
    return found[0].copy()


def test_as_near_to_a_fresh_reading_as_any_other_reading(demo: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With real weights: llama.cpp's rounding depends on how many tokens are read at a time, and no more than that."""
    prompts = Prompt(demo.target.model)
    messages: list[dict[str, str]] = []
    reused, cut = [], []
    for question in ("Which model fits 16 GB?", "What is a drafter?", "And how fast is it?", "Which one for code?"):
        messages.append({"role": "user", "content": question})
        prompt = prompts.chat(messages)
        again = scores(demo, prompt, reuse=True)
        cached = demo.target.cached
        fresh = scores(demo, prompt)
        with monkeypatch.context() as patch:
            patch.setattr(demo.target.context, "micro_batch", 11)
            other = scores(demo, prompt)
        reused.append(float(np.abs(again - fresh).max()))
        cut.append(float(np.abs(other - fresh).max()))
        assert cached > 0 or len(messages) == 1
        said = answer(demo, prompt, 80)
        text = b"".join(map(demo.target.model.piece, said)).decode(errors="replace")
        messages.append({"role": "assistant", "content": text})
    assert max(reused) <= 2 * max(cut)
