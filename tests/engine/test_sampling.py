"""Sampling: what each setting does, and that drafted answers have exactly the distribution of plain ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from advisor.errors import UsageError
from backends.native.acceptance import Draft, choose, verified
from backends.native.drafters import Guesses
from backends.native.engine import Engine
from backends.native.pace import Fixed
from backends.native.sampling import Distribution, Sampler, Sampling, distribution
from tests.engine.chi_square import alike, fit
from tests.engine.conftest import FULL

SIZE = 12
DRAWS = 50_000
LEAST = 1e-4
"""A true distribution falls below this once in ten thousand tests; the seeds here are fixed."""
SETTINGS = {
    "temperature 1": Sampling(1.0, seed=1),
    "temperature 0.6": Sampling(0.6, seed=2),
    "temperature 1.7": Sampling(1.7, seed=3),
    "top-k": Sampling(1.0, top_k=4, seed=4),
    "top-p": Sampling(0.9, top_p=0.8, seed=5),
    "min-p": Sampling(1.2, min_p=0.1, seed=6),
    "repetition": Sampling(1.0, repetition_penalty=1.5, penalty_window=4, seed=7),
    "bias": Sampling(1.0, logit_bias=((0, 2.0), (3, -math.inf)), seed=8),
    "all": Sampling(0.8, 7, 0.9, 0.02, 1.3, 3, ((1, 1.0),), seed=9),
}


def scores(seed: int, rows: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, (rows, SIZE)).astype(np.float32)


TARGET, DRAFTER = scores(1), scores(1) * 0.6 + scores(2) * 0.4
"""Scores after each token: a drafter that is often right, and not always."""


def draws(rule: Callable[[], int], count: int = DRAWS) -> np.ndarray:
    return np.bincount([rule() for _ in range(count)], minlength=SIZE).astype(np.float64)


def whole(found: Distribution) -> np.ndarray:
    """The probability of every token."""
    odds = np.zeros(SIZE)
    odds[found.tokens] = found.odds
    return odds


@pytest.mark.parametrize("name", SETTINGS)
def test_a_drawn_guess_changes_nothing(name: str) -> None:
    sampler = Sampler(SETTINGS[name], [2, 5])
    target, drafter = sampler.distribution(TARGET[5]), sampler.distribution(DRAFTER[5])

    def once() -> int:
        guess = drafter.draw(sampler.guessing.random())
        return choose(target, guess, drafter, sampler.random.random)

    assert fit(draws(once), whole(target)) > LEAST
    assert fit(draws(lambda: sampler.first(TARGET[5])), whole(target)) > LEAST


@pytest.mark.parametrize("name", SETTINGS)
def test_a_certain_guess_changes_nothing(name: str) -> None:
    sampler = Sampler(SETTINGS[name], [2, 5])
    target = sampler.distribution(TARGET[5])
    for guess in (int(target.tokens[target.odds.argmax()]), 3):
        counts = draws(lambda guess=guess: choose(target, guess, None, sampler.random.random))  # type: ignore[misc]
        assert fit(counts, whole(target)) > LEAST


def rounds(sampler: Sampler, text: list[int], length: int, drafts: int, rows: int) -> list[int]:
    """An answer of `length` tokens from tables instead of models, drafted as the engine does.

    `rows`: that are decoded; one for a guess that is compared, not verified.
    """
    given: list[int] = []
    while len(given) < length:
        guesses, last = Guesses(Fixed(drafts), sampler), (text + given)[-1]
        while guesses.pace.goes_on():
            guesses.add(DRAFTER[[last, *guesses.tokens][-1]])
        found = verified(guesses.draft, TARGET[[last, *guesses.tokens][:rows]], sampler)
        sampler.note(found)
        given += found
    return given[:length]


def joint(sampling: Sampling, text: list[int]) -> np.ndarray:
    """The probability of each pair of tokens after `text`, by plain sampling."""
    odds = np.zeros((SIZE, SIZE))
    first = whole(Sampler(sampling, text).distribution(TARGET[text[-1]]))
    for token in np.flatnonzero(first):
        odds[token] = first[token] * whole(Sampler(sampling, [*text, int(token)]).distribution(TARGET[token]))
    return odds


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("drafts", "rows"), [(1, 2), (3, 4), (1, 1)])
def test_pairs_of_tokens(name: str, drafts: int, rows: int) -> None:
    """Positions of a draft depend on each other; so do penalties. Two tokens of each answer, counted as one."""
    sampling, text = SETTINGS[name], [2, 5]
    pairs = np.zeros((SIZE, SIZE))
    sampler = Sampler(sampling, text)
    for _ in range(25_000 if FULL else 2500):
        sampler._lately.clear()
        sampler.note(text)
        one, two = rounds(sampler, text, 2, drafts, rows)
        pairs[one, two] += 1
    assert fit(pairs.ravel(), joint(sampling, text).ravel()) > LEAST


BROKEN: dict[str, Callable[[Distribution, int, Distribution, Callable[[], float]], int]] = {
    "always accepted": lambda p, d, q, r: d,
    "the rest drawn from p": lambda p, d, q, r: d if r() * q.of(d) < p.of(d) else p.draw(r()),
    "accepted with p": lambda p, d, q, r: d if r() < p.of(d) else p.beyond(q).draw(r()),
    "drawn from q - p": lambda p, d, q, r: d if r() * q.of(d) < p.of(d) else q.beyond(p).draw(r()),
    "guess as if certain": lambda p, d, q, r: d if r() * q.of(d) < p.of(d) else p.without(d).draw(r()),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_noticed(name: str) -> None:
    sampler = Sampler(SETTINGS["temperature 1"])
    target, drafter = sampler.distribution(TARGET[5]), sampler.distribution(DRAFTER[5])

    def once() -> int:
        return BROKEN[name](target, drafter.draw(sampler.guessing.random()), drafter, sampler.random.random)

    assert fit(draws(once), whole(target)) < 1e-12


def test_what_the_settings_leave() -> None:
    row = np.log(np.array([0.5, 0.25, 0.15, 0.06, 0.04], np.float32))

    def left(**settings: float) -> list[int]:
        return distribution(row, Sampling(1.0, **settings)).tokens.tolist()  # type: ignore[arg-type]

    assert left(top_k=2) == [0, 1]
    assert left(top_k=99) == left() == [0, 1, 2, 3, 4]
    assert left(top_p=0.5) == [0]
    assert left(top_p=0.51) == [0, 1]
    assert left(top_p=0.0) == [0]
    assert left(top_p=0.95) == [0, 1, 2, 3]
    assert left(min_p=0.29) == [0, 1, 2]
    assert left(top_k=3, min_p=0.4) == [0, 1]
    assert left(top_k=3, top_p=0.7) == [0, 1]
    assert distribution(row, Sampling(0.5)).odds[0] == pytest.approx(0.25 / (0.25 + 0.0625 + 0.0225 + 0.0036 + 0.0016))
    assert distribution(row, Sampling(1e-6)).odds[0] == pytest.approx(1)


@pytest.mark.parametrize("top_k", [1, 5, 64, 5000])
@pytest.mark.parametrize("width", [0.1, 3.0])
def test_top_k_and_top_p_of_a_real_vocabulary(top_k: int, width: float) -> None:
    """The shortcuts leave what sorting everything would."""
    row = np.random.default_rng(top_k).normal(0, width, 262_144).astype(np.float32)
    best = np.sort(np.argsort(-row)[:top_k])
    assert np.array_equal(distribution(row, Sampling(1.0, top_k=top_k)).tokens, best)
    odds = np.exp(row.astype(np.float64) - row.max())
    odds /= odds.sum()
    order = np.argsort(-odds, kind="stable")
    count = int(odds[order].cumsum().searchsorted(0.9)) + 1
    assert np.array_equal(distribution(row, Sampling(1.0, top_p=0.9)).tokens, np.sort(order[:count]))


def test_penalty_and_bias() -> None:
    row = np.array([2.0, -1.0, 0.5, 0.0], np.float32)
    sampler = Sampler(Sampling(repetition_penalty=2.0, penalty_window=2, logit_bias=((3, 1.5),)), [0, 0, 1])
    assert sampler.scores(row).tolist() == [1.0, -2.0, 0.5, 1.5]
    assert sampler.scores(row, [2]).tolist() == [2.0, -2.0, 0.25, 1.5]
    assert sampler.best(row) == 3
    sampler.note([3])
    assert sampler.best(row) == 0
    assert row.tolist() == [2.0, -1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(-0.1), "temperature"),
        (Sampling(math.nan), "temperature"),
        (Sampling(top_p=1.1), "top_p"),
        (Sampling(min_p=-1), "min_p"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(repetition_penalty=0), "repetition_penalty"),
        (Sampling(penalty_window=-2), "penalty_window"),
        (Sampling(logit_bias=((12, 1.0),)), "token 12"),
        (Sampling(logit_bias=((1, math.nan),)), "token 1"),
        (Sampling(logit_bias=tuple((i, -math.inf) for i in range(SIZE))), "every token"),
    ],
)
def test_impossible_settings(sampling: Sampling, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sampling.check(SIZE)


def sample(engine: Engine, prompt: list[int], drafts: int, sampling: Sampling, limit: int) -> list[int]:
    found = engine.generate(prompt, draft_tokens=drafts, max_tokens=limit, sampling=sampling)
    return [token for each in found for token in each.tokens]


@pytest.mark.engine
@pytest.mark.parametrize("name", ["worst", "demo"])
def test_through_the_engine(name: str, request: pytest.FixtureRequest) -> None:
    """Second and third token of many answers, with and without drafts."""
    engine: Engine = request.getfixturevalue(name)
    prompt = engine.target.model.tokenize("The file is", special=True, begin=True)
    counts = []
    for drafts in (0, 2):
        cells: dict[tuple[int, ...], int] = {}
        for seed in range(3000 if FULL else 200):
            sampling = Sampling(1.5, top_k=3, seed=seed + 10_000 * drafts)
            answer = tuple(sample(engine, prompt, drafts, sampling, 3)[1:])
            cells[answer] = cells.get(answer, 0) + 1
        counts.append(cells)
    keys = sorted({*counts[0], *counts[1]})
    assert alike(*(np.array([cells.get(key, 0) for key in keys], np.float64) for cells in counts)) > LEAST


@pytest.mark.engine
def test_a_seed_repeats_an_answer(worst: Engine) -> None:
    prompt = worst.target.model.tokenize("hello", special=True, begin=True)
    one, two = (sample(worst, prompt, 3, Sampling(1.0, seed=-5), 40) for _ in range(2))
    assert one == two
    assert sample(worst, prompt, 3, Sampling(1.0, seed=6), 40) != one
    assert sample(worst, prompt, 3, Sampling(1.0), 40) != sample(worst, prompt, 3, Sampling(1.0), 40)


@pytest.mark.engine
def test_greedy_with_penalty_and_bias_is_plain_decoding(worst: Engine) -> None:
    prompt = worst.target.model.tokenize("hello", special=True, begin=True)
    sampling = Sampling(repetition_penalty=1.4, logit_bias=((300, 1.0),))
    plain = sample(worst, prompt, 0, sampling, 60)
    assert all(sample(worst, prompt, drafts, sampling, 60) == plain for drafts in (1, 4))
    assert plain != sample(worst, prompt, 0, Sampling(), 60)


def test_a_draft_needs_no_odds_when_greedy() -> None:
    sampler = Sampler(Sampling(logit_bias=((0, 100.0),)))
    assert verified(Draft([0, 1], [None, None]), TARGET[:3], sampler) == [0, 0]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, seed=1)])
def test_a_guess_that_is_only_compared_gives_no_second_token(sampling: Sampling) -> None:
    best = int(TARGET[5].argmax())
    assert len(verified(Draft([best], [None]), TARGET[[5]], Sampler(sampling))) == 1
