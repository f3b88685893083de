"""What every screen looks like: at three sizes, on six machines, dark and light.

Each screen at each size, and each of the first screens on each machine, as a picture and as text. After a change that
is meant: `pytest tests/tui/test_pictures.py --snapshot-update`, and look at the pictures.
"""

from __future__ import annotations

from typing import Any

import pytest
import textual

from tests.tui.gallery import FIRST, Picture, Shown, first_screens, last_screens
from tests.tui.scenes import SCENES

WALKS = [
    ("pi", "80x24", "advisor-light"),
    ("rtx-4060", "80x24", "advisor-dark"),
    ("no-gpu", "120x36", "advisor-dark"),
    ("m3-max", "120x36", "advisor-light"),
    ("rtx-4090", "160x45", "advisor-light"),
    ("h100x8", "160x45", "advisor-dark"),
    ("rtx-4090", "80x24", "ansi-dark"),
]
"""Machine, size, theme."""
LAST = [("80x24", "advisor-dark"), ("120x36", "advisor-light"), ("160x45", "advisor-dark"), ("80x24", "ansi-light")]
"""Size, theme."""

pytestmark = pytest.mark.skipif(
    not textual.__version__.startswith("8."), reason="Textual draws a little differently from one major to the next"
)


@pytest.fixture
def compare(snap_compare: Any, snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compares a picture that was taken, with its text."""

    def compared(found: Picture) -> None:
        monkeypatch.setattr("textual._doc.take_svg_screenshot", lambda **_: found.svg)
        assert found.text == snapshot
        assert snap_compare(Shown())

    return compared


@pytest.mark.parametrize("screen", FIRST)
@pytest.mark.parametrize(("machine", "size", "theme"), WALKS)
def test_first(compare: Any, machine: str, size: str, theme: str, screen: str) -> None:
    compare(first_screens(machine, size, theme)[screen])


@pytest.mark.parametrize("screen", SCENES)
@pytest.mark.parametrize(("size", "theme"), LAST)
def test_last(compare: Any, size: str, theme: str, screen: str) -> None:
    compare(last_screens(size, theme)[screen])
