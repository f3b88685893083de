"""Every backend that comes with advisor keeps every rule, and so does the example. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.base import Backend, load
from tests.conformance.example import Example

pytest_plugins = ["backends.conformance.plugin"]


def needed(name: str) -> Backend:
    """A registered backend whose runtime must be there."""
    backend = load(name)
    found = backend.detect()
    if not found.available or not found.drafter:
        pytest.skip(f"{name}: {found.why_not}")
    return backend


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("native", marks=pytest.mark.engine),
        pytest.param("example", marks=pytest.mark.engine),
        pytest.param("llama.cpp", marks=pytest.mark.llama_server),
    ],
)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Example() if request.param == "example" else needed(request.param)


def test_conforms(rule: Callable[[], None]) -> None:
    rule()
