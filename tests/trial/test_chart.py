"""The chart: nothing leaves the picture, and a PNG says what it lacks."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree as ET

import pytest

from advisor.errors import RuntimeFailed
from advisor.pages import chart
from advisor.pages.chart import Bar, Group


def drawn(*bars: Bar, title: str = "Gains") -> ET.Element:
    return ET.fromstring(chart.svg(title, "here", [Group(label="all", bars=bars)], unit="times", mark=1.0))


def test_an_interval_that_says_nothing_does_not_flatten_the_rest() -> None:
    picture = drawn(Bar(label="a", value=2.0, low=1.5, high=2.5), Bar(label="b", value=1.0, low=0.01, high=900.0))
    widths = [float(each.attrib["width"]) for each in picture.iter() if each.tag.endswith("rect")][1:]
    assert widths[0] > chart.WIDTH / 4
    ends = [float(x) for each in picture.iter() for x in re.findall(r"[MH]([\d.]+)", each.get("d", ""))]
    assert ends
    assert max(ends) <= chart.WIDTH - chart.RIGHT


def test_long_words_are_cut_and_odd_ones_escaped() -> None:
    picture = drawn(Bar(label="<b>&", value=0.004, note="n"), title="x" * 300)
    texts = [each.text or "" for each in picture.iter() if each.tag.endswith("text")]
    assert max(map(len, texts)) <= chart.LONG_LINE
    assert "<b>&" in texts
    assert "0.004" in texts


def test_a_png_says_what_it_lacks(tmp_path: Path) -> None:
    for missing, hint in ((ImportError("cairosvg"), "pip install cairosvg"), (OSError("no cairo"), "apt install")):
        with mock.patch("importlib.import_module", side_effect=missing), pytest.raises(RuntimeFailed) as told:
            chart.check(tmp_path / "x.png")
        assert hint in told.value.hint + told.value.command


def test_a_png_is_drawn_where_it_can_be(tmp_path: Path) -> None:
    drawer = mock.Mock()
    with mock.patch("importlib.import_module", return_value=drawer):
        chart.write(tmp_path / "x.png", "<svg/>")
    drawer.svg2png.assert_called_once_with(bytestring=b"<svg/>", write_to=str(tmp_path / "x.png"), scale=2)
