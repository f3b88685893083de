"""The texts of every screen on every machine at every size, and that a theme changes colours only."""

from __future__ import annotations

import os
from typing import Any

import pytest
import textual

from tests.tui.gallery import FIRST, first_screens, last_screens
from tests.tui.scenes import SCENES
from tests.tui.world import MACHINES, SIZES

FULL = os.environ.get("ADVISOR_FULL") == "1"
DARK, LIGHT = "advisor-dark", "advisor-light"

pytestmark = [
    pytest.mark.skipif(not FULL, reason="ADVISOR_FULL=1 looks at every screen on every machine"),
    pytest.mark.skipif(not textual.__version__.startswith("8."), reason="Textual draws differently in another major"),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", FIRST)
def test_first(snapshot: Any, screen: str, size: str, machine: str) -> None:
    assert first_screens(machine, size, DARK)[screen].text == snapshot


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", SCENES)
def test_last(snapshot: Any, screen: str, size: str) -> None:
    assert last_screens(size, DARK)[screen].text == snapshot


@pytest.mark.parametrize("size", SIZES)
def test_a_theme_changes_colours_only(size: str) -> None:
    for name, dark in {**first_screens("rtx-4060", size, DARK), **last_screens(size, DARK)}.items():
        light = {**first_screens("rtx-4060", size, LIGHT), **last_screens(size, LIGHT)}[name]
        assert light.text == dark.text, name
