"""Every screen on every machine at every size: nothing is cut, the keys are there, and a theme changes colours only."""

from __future__ import annotations

import os

import pytest

from tests.tui.gallery import DIALOGS, FIRST, first_screens, last_screens
from tests.tui.scenes import SCENES
from tests.tui.world import MACHINES, SIZES

DARK, LIGHT = "advisor-dark", "advisor-light"
COVERED = (*DIALOGS, "details", "address", "leaving")
"""What lies over a step, whose text goes on behind it."""

pytestmark = pytest.mark.skipif(os.environ.get("ADVISOR_FULL") != "1", reason="ADVISOR_FULL=1 looks at all of them")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", [name for name in FIRST if name not in COVERED])
def test_first(screen: str, size: str, machine: str) -> None:
    whole(first_screens(machine, size, DARK)[screen].text)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", [name for name in SCENES if name not in COVERED])
def test_last(screen: str, size: str) -> None:
    whole(last_screens(size, DARK)[screen].text)


@pytest.mark.parametrize("size", SIZES)
def test_a_theme_changes_colours_only(size: str) -> None:
    dark = {**first_screens("rtx-4060", size, DARK), **last_screens(size, DARK)}
    light = {**first_screens("rtx-4060", size, LIGHT), **last_screens(size, LIGHT)}
    assert {name: found.text for name, found in light.items()} == {name: found.text for name, found in dark.items()}


def whole(text: str) -> None:
    assert "…" not in text
    assert "7 Chat" in text.splitlines()[0]
    assert "palette" in text.splitlines()[-1]
