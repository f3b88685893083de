"""What drafting is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.prediction import speculation
from advisor.prediction.speculation import acceptances, best_plan, expected_tokens, gain, repacked_cost, smooth_cost

CODE = (0.90, 0.80 / 0.90, 0.69 / 0.80, 0.56 / 0.69)
"""31B on code: .90/.80/.69/.56 of the drafts reach positions 1 to 4."""


def test_expected_tokens_are_the_accepted_run_and_the_targets_own() -> None:
    assert expected_tokens(()) == 1
    assert expected_tokens(CODE) == pytest.approx(1 + 0.90 + 0.80 + 0.69 + 0.56)


def test_code_on_a_dense_model_doubles_the_speed() -> None:
    plan = best_plan(CODE, smooth_cost(0.05), 0.08)
    assert plan.draft_tokens in (3, 4)
    assert 2.0 <= plan.gain <= 2.7


def test_never_accepted_means_never_drafted() -> None:
    assert best_plan(acceptances(0.0, 1.0, 8), smooth_cost(0.05), 0.01) == speculation.Plan(draft_tokens=0, gain=1.0)


def test_dear_verification_means_never_drafted() -> None:
    """A device bound by arithmetic pays a whole step for each row."""
    assert best_plan(acceptances(0.8, 0.95, 8), smooth_cost(1.0), 0.05).draft_tokens == 0


def test_rows_in_fours_are_cheapest_on_repacked_kernels() -> None:
    assert repacked_cost(4) < repacked_cost(2) < repacked_cost(3)
    assert best_plan((0.85,) * 8, repacked_cost, 0.03).draft_tokens in (3, 7)
    assert best_plan((0.65,) * 4, repacked_cost, 0.03).draft_tokens == 3


def test_experts_woken() -> None:
    assert speculation.experts_woken(128, 8, 1) == pytest.approx(8)
    assert speculation.experts_woken(128, 8, 3) == pytest.approx(22.5, abs=0.1)
    assert speculation.experts_woken(128, 8, 10_000) == pytest.approx(128)


conditional = st.lists(st.floats(0, 1), max_size=8)


@given(conditional, st.floats(0, 2), st.floats(0, 2))
def test_best_plan_is_never_slower_than_plain(accepted: list[float], per_row: float, draft: float) -> None:
    plan = best_plan(accepted, smooth_cost(per_row), draft)
    assert plan.gain >= 1
    assert plan.gain == gain(accepted[: plan.draft_tokens], smooth_cost(per_row), draft)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_run_is_at_most_all_drafts_and_one(first: float, decay: float) -> None:
    assert 1 <= expected_tokens(acceptances(first, decay, 5)) <= 6


@given(st.integers(1, 40))
def test_repacked_cost_is_defined_for_every_row_count(rows: int) -> None:
    assert 1 <= repacked_cost(rows) <= rows
