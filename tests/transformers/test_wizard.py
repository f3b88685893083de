"""From the wizard's list of backends to a conversation, on a runtime that reads checkpoints, for real."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from advisor.running import sessions
from advisor.tui.app import Wizard
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from tests.tui.drive import drive, press, step, text, until

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.skipif(not os.environ.get("ADVISOR_RUNTIMES"), reason="on demand: make test-runtimes"),
    pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="PyTorch is not installed"),
]
LOADS_S = 300.0
"""PyTorch takes its time where other programs run."""


def test_the_demo_on_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"GEMMA_ADVISOR_{name}", str(tmp_path / name.lower()))
    world = replace(Services(), uncalibrated=lambda _: False, each_s=1.0)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.answer is not None or app.trouble is not None)
        await press(pilot, "b")
        names = [str(one.id) for one in app.screen.query_one(OptionList).options]
        app.screen.query_one(OptionList).highlighted = names.index("transformers")
        await press(pilot, "d")
        assert step(app) == "summary"
        await until(pilot, lambda: "advisor launch demo --backend transformers" in text(app) and app.errand)
        await press(pilot, "enter")
        await until(pilot, lambda: app.started is not None and app.started.over, LOADS_S)
        assert app.live is not None, app.started and app.started.error
        assert app.live.session.backend == "transformers"
        app.action_go("trial")
        await until(pilot, lambda: app.tryout is not None and app.tryout.over, LOADS_S)
        assert app.tryout is not None and app.tryout.error is None and app.tryout.samples
        app.action_go("chat")
        await press(pilot, "'What is a drafter?", "enter")
        await until(pilot, lambda: app.live is not None and app.live.talk.said and app.live.talk.said[0].ended == "")
        assert app.live.talk.said[0].answer
        app.action_end()
        await until(pilot, lambda: app.live is None)

    drive(Wizard(services=world, options=Settings(), remember=False), script)
    assert not sessions.everything()
