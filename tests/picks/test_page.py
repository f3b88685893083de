"""The page for people: calm, whole, and on one screen's width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from advisor.choice.ranking import Request, rank
from advisor.knowledge.catalog import load
from advisor.money.cost import price
from advisor.pages import terminal
from advisor.pages.report import document
from tests.head.machines import NAMED, simulated


def page(spec: str, *, use_case: str = "chat", per_hour: float | None = None) -> str:
    answer = document(rank(Request(use_case=use_case), simulated(spec), load()), price=price(per_hour, None, None))
    file = io.StringIO()
    terminal.show(answer, Console(file=file, width=80, highlight=False, markup=False, emoji=False))
    return file.getvalue()


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("use_case", ["chat", "desktop", "production"])
def test_nothing_is_cut_off_and_it_stays_short(spec: str, use_case: str) -> None:
    shown = page(spec, use_case=use_case, per_hour=0.6)
    lines = shown.splitlines()
    assert "…" not in shown
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) <= 55
    assert "per million tokens of answers" in " ".join(shown.split())


def test_roles_trades_and_the_next_step_are_there() -> None:
    shown = " ".join(page("RTX 3060 12GB, 32GB").split())
    for part in ("best", "fastest", "Trade", "12B all on the GPU", "Next step Gemma 4 26B-A4B"):
        assert part in shown


def test_no_cost_without_a_price() -> None:
    assert "per million" not in page("RTX 3060 12GB, 32GB")
