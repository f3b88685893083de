"""Drafters behind one protocol: another model, the text itself, and which file is which."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor.errors import RuntimeFailed
from advisor.files import gguf
from backends.native.depth import AUTO
from backends.native.drafters import Lookup, Mtp, Place, Small, same_vocabulary
from backends.native.engine import Engine
from backends.native.library import Model
from backends.native.pace import Fixed
from backends.native.sampling import Sampler, Sampling
from tests.engine import random_pair
from tests.engine.lossless import Swapped, same, tokens
from tests.engine.random_pair import Pair, Shape

SMALLER = Shape(width=64, ffn=128, heads=2, sliding=(True, True, True, False, True, False))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller random model with the same vocabulary."""
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    random_pair.write_target(path, SMALLER, endless=True)
    return path


@pytest.fixture(scope="module")
def assisted(endless_pair: Pair, small: Path) -> Iterator[Engine]:
    made = Engine(endless_pair.target, small, context_tokens=1024, threads=1, micro_batch=48)
    yield made
    made.close()


def guesses(lookup: Lookup, text: list[int], count: int) -> list[int]:
    return lookup.draft(Place(text), Fixed(count), Sampler()).tokens


def test_the_text_as_drafter() -> None:
    lookup, text = Lookup(), [1, 2, 3, 4, 5, 6, 7]
    lookup.begin(text)
    assert guesses(lookup, text, 3) == []
    text += [2, 3, 4]
    assert lookup.match() == (4, 3)
    assert guesses(lookup, text, 2) == [5, 6]
    assert guesses(lookup, text, 9) == [5, 6, 7, 2, 3, 4, 5, 6, 7]
    text += [5, 6]
    assert lookup.match() == (6, 5)
    lookup.begin([1, 2, 9, 8, 2, 3, 4])  # where they came in the other text counts no more
    assert lookup.match() == (0, 0)


def test_the_last_place_counts() -> None:
    lookup, text = Lookup(), [1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3]
    lookup.begin(text)
    assert guesses(lookup, text, 1) == [8]


def test_what_is_found_was_there() -> None:
    """Against a search through the whole text."""
    rng, lookup = random.Random(5), Lookup()
    text: list[int] = []
    for answer in range(30):
        text = text[: rng.randrange(len(text) + 1)] + [rng.randrange(6) for _ in range(20)]
        lookup.begin(text)
        for _ in range(40):
            text.append(rng.randrange(6))
            at, common = lookup.match()
            if at:
                assert text[at - common : at] == text[-common:], answer
            elif answer == 0:  # later, an entry of a text given up may hide an older one
                assert not any(text[end - 3 : end] == text[-3:] for end in range(3, len(text)))


@pytest.mark.engine
def test_a_smaller_model_drafts(assisted: Engine, endless_pair: Pair) -> None:
    assert isinstance(assisted.drafter, Small)
    for prompt in ([2, 20, 30, 40], [2, *range(280, 340)], [2, 20, 30, 50]):
        plain = tokens(assisted, prompt, 0, 150)
        for drafts in (1, 4, AUTO):
            verdict = same(assisted, prompt, plain, tokens(assisted, prompt, drafts, 150), 5)
            assert verdict.wrong < 0
    rounds = list(assisted.generate([2, 20, 30], draft_tokens=3, max_tokens=30))
    assert all(found.drafted == 3 for found in rounds[1:-3])


@pytest.mark.engine
@pytest.mark.parametrize("length", [5, 250, 330])
def test_a_model_as_its_own_drafter(assisted: Engine, endless_pair: Pair, length: int) -> None:
    """Then most guesses are right: its cache follows the text through acceptance, rejection and other drafters.

    Not all: it read the prompt in other pieces, and random weights amplify that.
    """
    target = assisted.target
    with Swapped(assisted, Small(endless_pair.target, target, threads=1)) as engine:
        prompt = [2, *((9 + 31 * i) % 360 + 6 for i in range(length - 1))]
        plain = tokens(engine, prompt, 0, 60)
        rounds = list(engine.generate(prompt, draft_tokens=3, max_tokens=60))
        assert [token for found in rounds for token in found.tokens] == plain
        assert sum(found.accepted for found in rounds) > 0.65 * sum(found.drafted for found in rounds)
        mixed = tokens(engine, prompt, AUTO, 60)
        assert mixed == plain
        engine.drafter.close()


@pytest.mark.engine
def test_plain_decoding_does_not_bother_the_drafter(assisted: Engine) -> None:
    """Nothing is read for it, and after that it drafts as before."""
    assert isinstance(assisted.drafter, Small)
    tokens(assisted, [2, 300, 301], 3, 8)
    read = list(assisted.drafter._read)
    tokens(assisted, [2, 310, 311, 312], 0, 8)
    assert assisted.drafter._read == read
    assert tokens(assisted, [2, 310, 311, 312], 3, 8) == tokens(assisted, [2, 310, 311, 312], 0, 8)


@pytest.mark.engine
def test_sampling_with_a_smaller_model(assisted: Engine) -> None:
    sampling = Sampling(1.0, top_k=20, seed=3)
    one, two = (
        [
            t
            for found in assisted.generate([2, 20], draft_tokens=3, max_tokens=40, sampling=sampling)
            for t in found.tokens
        ]
        for _ in range(2)
    )
    assert one == two


@pytest.mark.engine
@pytest.mark.parametrize("drafts", [1, 5, AUTO])
def test_the_text_as_the_only_drafter(endless_pair: Pair, drafts: int) -> None:
    engine = Engine(endless_pair.target, gguf.LOOKUP, context_tokens=1024, threads=1)
    passage = list(range(300, 330))
    prompt = [2, *passage, 50, *passage, 60, *passage[:9]]
    plain = tokens(engine, prompt, 0, 120)
    rounds = list(engine.generate(prompt, draft_tokens=drafts, max_tokens=120))
    assert [token for found in rounds for token in found.tokens] == plain
    engine.close()


def test_kinds_of_files(endless_pair: Pair, small: Path, tmp_path: Path) -> None:
    for path in (small, endless_pair.drafter):
        _, found = gguf.pair(endless_pair.target, path)
        assert found is not None
    assert gguf.pair(endless_pair.target, gguf.LOOKUP)[1] is None
    with pytest.raises(RuntimeFailed, match="must be smaller") as raised:
        gguf.pair(small, endless_pair.target)
    assert "gemma4-assistant" in raised.value.hint


@pytest.mark.engine
def test_another_vocabulary(endless_pair: Pair, demo_pair: Pair) -> None:
    with pytest.raises(RuntimeFailed, match=r"vocabulary has 372 tokens, the model's 4,096|vocabulary has \d+ tokens"):
        gguf.pair(demo_pair.target, endless_pair.target)
    one, other = Model(endless_pair.target), Model(demo_pair.target)
    same_vocabulary(one, one)
    with pytest.raises(RuntimeFailed, match="does not belong"):
        same_vocabulary(one, other)
    one.close()
    other.close()


@pytest.mark.engine
def test_the_assistant_is_known_by_its_file(demo: Engine) -> None:
    assert isinstance(demo.drafter, Mtp)
    assert demo.backup is not None
