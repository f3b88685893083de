"""The suite as a pytest plugin. It is loaded by who names it, so that it costs nobody else anything:

    pytest_plugins = ["backends.conformance.plugin"]

    @pytest.fixture(scope="module")
    def backend() -> Backend:
        return Mine()

    def test_conforms(rule: Callable[[], None]) -> None:
        rule()

That is one test per rule. A fixture `conformance_model` (a `backends.base.Model`) replaces the embedded pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backends.base import Backend, Model
from backends.conformance import RULES, Bench, Rule, demand_of, name_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per rule for each function that asks for `rule`."""
    if "rule" in metafunc.fixturenames:
        metafunc.parametrize("rule", RULES, ids=name_of, indirect=True)


@pytest.fixture(scope="module")
def conformance_model() -> Model | None:
    """The files to try it with; None: the embedded pair."""
    return None


@pytest.fixture(scope="module")
def conformance(backend: Backend, conformance_model: Model | None) -> Iterator[Bench]:
    """Where the module's backend is tried out; nothing of it is left running."""
    bench = Bench(backend, conformance_model)
    yield bench
    bench.close()


@pytest.fixture
def rule(request: pytest.FixtureRequest, conformance: Bench) -> Callable[[], None]:
    """Tries one rule: passes, fails with the reason, or skips with it."""
    tried: Rule = request.param

    def attempt() -> None:
        result = conformance.result(tried)
        if result.status == "fail":
            pytest.fail(f"{demand_of(tried)}\n{result.reason}", pytrace=False)
        if result.status == "skip":
            pytest.skip(result.reason)

    return attempt
