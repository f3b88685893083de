"""The doctor's checks: a runtime that dies at its first matrix product is found by decoding, and by nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from advisor.doctor import checks
from advisor.machine import Availability
from advisor.running import demo
from backends.base import LaunchPlan, Model, Options
from backends.llama_cpp import LlamaCpp
from backends.native import Native
from tests.engine import random_pair


class Dies(Native):
    """An engine that is built for another processor."""

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        argv = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
        return LaunchPlan(backend=self.name, model=model, options=options, argv=argv)


def test_an_illegal_instruction_is_found_with_what_mends_it() -> None:
    found = checks.decode(Dies())
    assert found.status == "fail" and "SIGILL" in found.message
    assert "make" in found.command


@pytest.mark.engine
def test_the_engine_decodes_and_drafts() -> None:
    found = checks.decode(Native())
    assert found.status == "pass" and "16 tokens" in found.message


@pytest.mark.engine
def test_drafts_that_are_wrong_where_they_should_be_right_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = random_pair.write(tmp_path, endless=True)
    wrong = msgspec.structs.replace(demo.pair(), target=pair.target, drafter=pair.drafter, draft_tokens=3)
    monkeypatch.setattr(demo, "pair", lambda: wrong)
    found = checks.decode(Native())
    assert found.status == "fail" and "computes wrongly" in found.message and "GGML_CUDA_PDL=0" in found.mend


@pytest.mark.llama_server
def test_llama_server_decodes_and_drafts(llama_server: Path) -> None:
    assert checks.decode(LlamaCpp()).status == "pass"


def test_backends_that_are_missing_or_old_are_warnings_with_a_remedy() -> None:
    missing = checks._backend(Availability(name="x", available=False, why_not="not installed", hint="install it"))
    old = checks._backend(Availability(name="x", available=True, version="b1", why_not="b1 is old", hint="update it"))
    assert (missing.status, missing.mend) == ("warn", "install it")
    assert (old.status, old.mend) == ("warn", "update it") and "b1 is old" in old.message
