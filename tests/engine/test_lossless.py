"""Greedy answers are those of plain decoding, token for token, whatever is drafted."""

from __future__ import annotations

import random

import pytest

from backends.native.answer import Final, Job, answer
from backends.native.depth import AUTO
from backends.native.engine import Engine
from backends.native.library import ContextFull
from backends.native.text import Form
from tests.engine.conftest import FULL
from tests.engine.lossless import QUESTIONS, WORDS, Scripted, Swapped, noise, same, tokens

pytestmark = pytest.mark.engine


def prompts(engine: Engine, count: int, longest: int) -> list[list[int]]:
    """`count` prompts from one token up to `longest`, as chats and as plain text."""
    rng = random.Random(7)
    model = engine.target.model
    made = [model.tokenize("", special=True, begin=True)]
    for index in range(count - 1):
        if index < len(QUESTIONS):
            text = QUESTIONS[index]
        else:
            text = " ".join(rng.choice(WORDS) for _ in range(rng.choice((3, 10, 30, 60, 300))))
        chat = f"<|turn>user\n{text}<turn|>\n<|turn>model\n" if index % 3 else text
        made.append(model.tokenize(chat, special=True, begin=True)[:longest])
    return made


def check(engine: Engine, prompt: list[int], plain: list[int], drafts: int, limit: int) -> int:
    """Assert that drafting changes nothing; returns the number of near-ties."""
    verdict = same(engine, prompt, plain, tokens(engine, prompt, drafts, limit), drafts + 1 if drafts >= 0 else 16)
    assert verdict.wrong < 0, f"parted at {verdict.wrong} of {len(plain)}, best two {verdict.gap:.2g} apart"
    return verdict.ties


LENGTHS = (1, 2, 3, 4, 5, 6, 9, AUTO)


@pytest.mark.parametrize(("name", "many"), [("demo", 200 if FULL else 24), ("worst", 200 if FULL else 12)])
def test_many_prompts(name: str, many: int, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    engine: Engine = request.getfixturevalue(name)
    ties = drafted = accepted = count = 0
    rng = random.Random(3)
    asked = prompts(engine, many, 600)
    for index, prompt in enumerate(asked):
        limit = 30 if index % 8 else 100
        plain = tokens(engine, prompt, 0, limit)
        for drafts in LENGTHS if FULL else rng.sample(LENGTHS, 3):
            ties += check(engine, prompt, plain, drafts, limit)
            count += 1
        for found in engine.generate(prompt, draft_tokens=3, max_tokens=limit):
            drafted, accepted = drafted + found.drafted, accepted + found.accepted
    longest = max(asked, key=len)
    level = noise(engine, longest, tokens(engine, longest, 0, 40), 4)
    with capsys.disabled():
        print(
            f"\n{name}: {count} answers compared, {ties} near-ties (noise of one row against four: {level:.2g}), "
            f"{accepted / max(1, drafted):.0%} of drafts accepted"
        )
    assert ties <= (0 if name == "worst" else count // 20)


@pytest.mark.parametrize("length", [40, 63, 64, 65, 200, 255, 256, 257, 700])
@pytest.mark.parametrize("errors", [0.0, 0.3, 0.8])
def test_across_the_sliding_window(precise: Engine, length: int, errors: float) -> None:
    """The window is 64 here and its cache has 256 cells: answers begin before, at and past each, and roll back."""
    prompt = [2, *((9 + 31 * i) % 360 + 6 for i in range(length - 1))]
    limit = 100
    plain = tokens(precise, prompt, 0, limit)
    assert noise(precise, prompt, plain, 7) < 0.03
    for drafts in (2, 6, 15):
        with Swapped(precise, Scripted(plain, len(prompt), errors, seed=drafts)) as engine:
            assert check(engine, prompt, plain, drafts, limit) <= 1


def ending(engine: Engine) -> tuple[list[int], list[int]]:
    """A prompt whose answer ends by itself, and that answer."""
    for prompt in prompts(engine, 40, 60):
        plain = tokens(engine, prompt, 0, 400)
        if plain[-1] in engine.end and len(plain) > 8:
            return prompt, plain
    raise AssertionError("no answer of this model ends by itself")


@pytest.mark.parametrize("drafts", [1, 2, 3, 4, 5, 6, 15])
def test_end_inside_a_draft(worst: Engine, drafts: int) -> None:
    prompt, plain = ending(worst)
    with Swapped(worst, Scripted(plain, len(prompt), 0.0)) as engine:
        rounds = list(engine.generate(prompt, draft_tokens=drafts))
    assert [token for found in rounds for token in found.tokens] == plain
    assert all(found.accepted <= min(found.drafted, len(found.tokens)) for found in rounds)
    assert not any(token in worst.end for token in plain[:-1])


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_fewer_tokens_than_a_draft(worst: Engine, limit: int) -> None:
    prompt = prompts(worst, 4, 60)[3]
    plain = tokens(worst, prompt, 0, 20)
    with Swapped(worst, Scripted(plain, len(prompt), 0.0)) as engine:
        assert tokens(engine, prompt, 6, limit) == plain[:limit]


def test_stop_string_inside_a_draft(worst: Engine) -> None:
    prompt = prompts(worst, 4, 60)[3]
    whole = list(answer(worst, Job(prompt, 0, 60)))
    text = "".join(piece.text for piece in whole[:-1])  # type: ignore[union-attr]
    plain = tokens(worst, prompt, 0, 60)
    for begin in (3, 10, 17):
        stop = text[begin : begin + 3]
        with Swapped(worst, Scripted(plain, len(prompt), 0.0)) as engine:
            *pieces, final = answer(engine, Job(prompt, 6, 60, Form((stop,))))
        assert "".join(piece.text for piece in pieces) == text[: text.find(stop)]  # type: ignore[union-attr]
        assert isinstance(final, Final)
        assert final.reason == "stop"


def test_a_full_context_is_used_to_its_last_token(worst: Engine) -> None:
    room = worst.target.context.tokens
    prompt = [2, *((9 + 31 * i) % 360 + 6 for i in range(room - 20))]
    found = tokens(worst, prompt, 6, worst.room(prompt))
    assert len(found) == worst.room(prompt) or found[-1] in worst.end
    for impossible in (prompt[:1] * room, prompt[:1] * (room + 5)):
        with pytest.raises(ContextFull, match=f"{room:,}"):
            tokens(worst, impossible, 0, 1)
    with pytest.raises(ContextFull, match="asked for"):
        tokens(worst, prompt, 0, 21)
    assert tokens(worst, prompt[:30], 3, 10) == tokens(worst, prompt[:30], 0, 10)


def test_stopping_between_rounds(worst: Engine) -> None:
    prompt = prompts(worst, 3, 60)[2]
    rounds = []
    for found in worst.generate(prompt, draft_tokens=2, max_tokens=50, stopped=lambda: len(rounds) >= 3):
        rounds.append(found)  # noqa: PERF402 - the condition reads the list
    assert len(rounds) == 3
