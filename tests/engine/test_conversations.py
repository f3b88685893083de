"""Greedy answers in conversations are plain decoding's too: whoever drafts, however many, whatever the cache holds.

Each turn goes on, takes an answer back, or cuts the history anywhere; the conversations grow past the sliding window.
The plain answers come from an engine of its own, so that the cache under test is the one that drafting left behind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from backends.native.depth import AUTO
from backends.native.drafters import Drafter, Lookup, NoDrafter, Small
from backends.native.engine import Engine
from tests.engine import random_pair
from tests.engine.conftest import FULL, exact_cache, pinned
from tests.engine.lossless import QUESTIONS, WORDS, Swapped, same, tokens
from tests.engine.random_pair import Pair

pytestmark = pytest.mark.engine

CONVERSATIONS, TURNS = (25, 8) if FULL else (1, 5)
LENGTHS = (1, 2, 3, 5, 9, AUTO)
LIMIT = 40 if FULL else 20
LONGEST = 1200
"""Tokens of a prompt; the windows are 128 and 64."""


class Side(NamedTuple):
    """`plain`: answers without a drafter, and says how near two tokens were."""

    plain: Engine
    drafting: Engine
    drafters: dict[str, Drafter]
    asked: list[tuple[list[int], list[int]]]
    """Prompts with their plain answers."""


@pytest.fixture(scope="module", params=["demo", "precise"])
def side(
    request: pytest.FixtureRequest, demo_pair: Pair, precise_pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Side]:
    """The demo pair, with itself as the small model that is always right; a random pair, with one that never is."""
    if request.param == "demo":
        small = demo_pair.target
        plain, drafting = (pinned(demo_pair, threads=1) for _ in range(2))
    else:
        small = smaller(tmp_path_factory.mktemp("small") / "small.gguf")
        with exact_cache():
            plain, drafting = (pinned(precise_pair, micro_batch=48, threads=1) for _ in range(2))
    model = Small(small, drafting.target, threads=drafting.target.threads.cores)
    drafters: dict[str, Drafter] = {"mtp": drafting.drafter, "small": model, "lookup": Lookup(), "none": NoDrafter()}
    rng = random.Random(8)
    asked = [turn for _ in range(CONVERSATIONS) for turn in conversation(plain, rng)]
    yield Side(plain, drafting, drafters, asked)
    for made in (model, plain, drafting):
        made.close()


def smaller(path: Path) -> Path:
    shape = random_pair.TARGET._replace(width=64, ffn=128, heads=2)
    random_pair.write_target(path, shape, precise=True)
    return path


def conversation(plain: Engine, rng: random.Random) -> Iterator[tuple[list[int], list[int]]]:
    """Prompts with their plain answers, turn by turn."""
    model = plain.target.model
    prompt = model.tokenize("", special=True, begin=True)
    for _ in range(TURNS):
        if rng.random() < 0.25:
            prompt = prompt[: rng.randrange(1, len(prompt) + 1)]
        long = " ".join(rng.choice(WORDS) for _ in range(rng.choice((40, 150))))
        text = f"<|turn>user\n{rng.choice((rng.choice(QUESTIONS), long))}<turn|>\n<|turn>model\n"
        prompt = [*prompt, *model.tokenize(text, special=True, begin=False)][:LONGEST]
        answer = tokens(plain, prompt, 0, LIMIT)
        yield prompt, answer
        prompt = [*prompt, *answer] if rng.random() < 0.75 else prompt


@pytest.mark.parametrize("name", ["mtp", "small", "lookup", "none"])
def test_conversations(
    side: Side, name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    count = near = kept = past = 0
    for length in {"none": (0,)}.get(name, LENGTHS if FULL else (3, AUTO)):
        with Swapped(side.drafting, side.drafters[name]) as engine:
            for index, (prompt, answer) in enumerate(side.asked):
                for reuse in (True, False) if index % 4 == 3 else (True,):
                    found = tokens(engine, prompt, length, LIMIT, reuse=reuse)
                    kept += engine.target.cached > 0
                    past += len(prompt) > engine.target.context.window
                    verdict = same(side.plain, prompt, answer, found, 16, foreign=True)
                    assert verdict.wrong < 0, (length, index, reuse, verdict)
                    count, near = count + 1, near + verdict.ties
    with capsys.disabled():
        print(
            f"\n{request.node.callspec.id}: {count} answers to {len(side.asked)} prompts compared, "
            f"{past} past the window, {kept} with a beginning that was kept, {near} near-ties"
        )
    assert near <= max(1, count // 10)
    assert min(kept, past) > count // 4
