"""It opens at once: nothing stands before the first picture that is not in it, and nothing is drawn twice."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer

from advisor.tui.app import Wizard
from advisor.tui.screens.answer import AnswerStep
from advisor.tui.settings import Settings
from advisor.tui.state import Answer
from tests.tui.drive import drive, press, settled
from tests.tui.world import wizard

LATER = (
    "advisor.hardware.detection", "advisor.hardware.probes", "advisor.choice.estimate", "advisor.files.gguf",
    "advisor.files.hub", "advisor.files.store", "advisor.running.launching", "advisor.trials.trial",
    "advisor.trials.calibration", "advisor.running.client", "advisor.tui.screens.tune",
    "advisor.tui.screens.summary", "advisor.tui.screens.chat", "backends.llama_cpp", "backends.native", "yaml",
    "gguf", "numpy", "httpx", "huggingface_hub", "llama_cpp", "ollama", "jinja2", "starlette",
    "textual.widgets.markdown",
)  # fmt: skip
"""What the first picture needs nothing of."""

OPENED = """
import os, sys
from advisor.knowledge import catalog
from advisor.tui.app import Wizard
from advisor.tui.services import Services

def detect():
    shown = "".join(part.text for line in app.screen._compositor.render_strips() for part in line)
    assert "Looking at this machine" in shown and "Quit" in shown, shown
    assert not catalog.load_folder.cache_info().misses, "the catalogue was read"
    print(*sys.modules, flush=True)
    os._exit(0)

app = Wizard(services=Services(detect=detect), remember=False)
app.run(headless=True, size=(80, 24))
"""


def test_the_first_picture_is_there_before_the_machine_is_looked_at() -> None:
    found = subprocess.run([sys.executable, "-c", OPENED], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    loaded = set(found.stdout.split())
    assert "textual.app" in loaded
    assert loaded.isdisjoint(LATER)


def test_an_answer_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Answer] = []
    show = AnswerStep.show

    def counted(self: AnswerStep, answer: Answer) -> None:
        shown.append(answer)
        show(self, answer)

    monkeypatch.setattr(AnswerStep, "show", counted)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert shown == [app.answer]
        app.choose(use_case="coding")
        await settled(pilot)
        assert [one.choice.use_case for one in shown] == ["chat", "coding"]

    drive(wizard("rtx-4060"), script)


def test_keys_that_stay_are_not_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[str] = []
    recompose = Footer.recompose

    async def counted(self: Footer) -> None:
        composed.append(type(self.screen).__name__)
        await recompose(self)

    monkeypatch.setattr(Footer, "recompose", counted)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        opened = len(composed)
        for _ in range(5):
            app.screen.refresh_bindings()
        await settled(pilot)
        assert len(composed) == opened
        await press(pilot, "t")
        assert composed[opened:].count("TuneStep") >= 1

    drive(wizard("rtx-4060"), script)


@pytest.mark.parametrize("name", ["nord", "advisor-light", "no such theme"])
def test_it_opens_in_its_theme(name: str) -> None:
    """No stylesheet is parsed for another one first; a name that nothing has is left in the settings as it is."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert app.current_theme.name == app.theme == ("advisor-dark" if name == "no such theme" else name)
        assert app.has_class("-dark-mode") == app.current_theme.dark
        assert app.theme_variables["primary"].lower() == app.current_theme.primary.lower()
        assert app.options.theme == name

    drive(Wizard(services=wizard("rtx-4060").services, options=Settings(theme=name), remember=False), script)
