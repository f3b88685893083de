"""LiteRT-LM's own command, without a model of its own: what it is, and what it makes of a file that it cannot run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from advisor.errors import RuntimeFailed
from backends.base import Model, load
from tests.runtimes.conftest import refused

PROGRAM = os.environ.get("LITERT_LM", "")
"""As this process was given it: the fixtures of this folder hide what is installed."""
pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.skipif(not os.environ.get("ADVISOR_RUNTIMES"), reason="on demand: make test-runtimes"),
]


@pytest.fixture(autouse=True)
def real(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITERT_LM", PROGRAM)
    found = load("litert").detect()
    if not found.available:
        pytest.skip(f"LiteRT-LM: {found.why_not}")


@pytest.fixture
def broken(tmp_path: Path) -> Model:
    file = tmp_path / "broken.litertlm"
    file.write_bytes(b"LITERTLM" + bytes(1 << 16))
    return Model(name="broken", target=file, draft_tokens=1, context_tokens=512)


def test_its_version_is_what_it_says() -> None:
    (words,) = load("litert").reports()
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"litert-lm, version {load('litert').detect().version}"


def test_a_file_that_cannot_be_benchmarked_is_said_before_anything_is_served(broken: Model) -> None:
    """It ends with code 0 all the same."""
    error = refused("litert", broken)
    assert isinstance(error, RuntimeFailed)
    assert "does not run broken.litertlm: " in error.message
    assert "--no-drafter" in error.hint


def test_a_server_that_is_ready_and_cannot_answer_is_ended(broken: Model) -> None:
    """Without a drafter nothing is benchmarked, and the model is loaded at the first request."""
    plain = Model(name="broken", target=broken.target, context_tokens=512)
    error = refused("litert", plain)
    assert "answers no request: " in error.message
    assert "broken.litertlm" in error.message
