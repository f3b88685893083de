"""The conformance suite against the recorded servers: what an adapter makes of them keeps every rule of a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from backends.base import Backend, Model, load
from tests.runtimes import conftest

pytest_plugins = ["backends.conformance.plugin"]


@pytest.fixture(scope="module", params=["vllm", "sglang", "mlx", "litert"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        conftest.settle(folder, patch)
        conftest.environment(folder / "env", request.param, patch)
        yield load(request.param)


@pytest.fixture(scope="module")
def conformance_model(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("files")
    if backend.name == "litert":
        # It takes no `max_tokens`: what the rules ask it goes on to the end of its context.
        return msgspec.structs.replace(conftest.one_file(folder), context_tokens=512)
    return conftest.checkpoints(folder)


@pytest.fixture(autouse=True)
def alone() -> None:
    """The module's environment stays as it is: its server outlives a test."""


def test_conforms(rule: Callable[[], None]) -> None:
    rule()
