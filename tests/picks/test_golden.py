"""The golden table: every pick that an expert argued for, and the whole difference when one changes."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import NamedTuple, cast

import yaml

from advisor.choice.candidates import Candidate, Prefer
from advisor.choice.ranking import Request, rank
from advisor.hardware.simulate import parse
from advisor.knowledge.catalog import load

TABLE = Path(__file__).parent / "golden.yaml"
ANY = "any"


class Row(NamedTuple):
    """A line of the table, as text."""

    machine: str
    asked: str
    model: str
    bits: str
    where: str
    drafter: str
    why: str

    def line(self) -> str:
        return (
            f"{self.machine:<26} {self.asked:<22} {self.model:<4} {self.bits:<4} {self.where:<15} {self.drafter:<4} "
            f"{self.why}"
        )


def rows() -> list[Row]:
    return [Row(*map(text, entry)) for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8"))]


def text(cell: object) -> str:
    """YAML reads `on` as a boolean."""
    return {True: "on", False: "off"}.get(cell, str(cell)) if isinstance(cell, bool) else str(cell)


def pick(row: Row) -> Candidate:
    use_case, _, prefer = row.asked.partition(", ")
    request = Request(use_case=use_case, prefer=cast(Prefer, prefer) or None)
    return rank(request, parse(row.machine, load()), load()).recommendations[0].candidate


def found(row: Row) -> Row:
    """The row as the code would write it; where the table does not care, neither does the comparison."""
    one = pick(row)
    digits = re.search(r"Q(\d)", one.quant.name)
    bits = digits[1] if digits else "16"
    return row._replace(
        model=one.model.id,
        bits=row.bits if row.bits == ANY else bits,
        where=row.where if row.where == ANY else one.placement.mode,
        drafter=row.drafter if row.drafter == ANY else ("on" if one.drafter.enabled else "off"),
    )


def test_every_pick_is_the_one_argued_for() -> None:
    table = rows()
    expected, actual = [row.line() for row in table], [found(row).line() for row in table]
    changed = list(difflib.unified_diff(expected, actual, "argued for", "picked", lineterm="", n=0))
    assert not changed, "\n".join(["", *changed])


def test_the_table_covers_the_ground() -> None:
    table = rows()
    assert len(table) >= 40
    assert {row.asked.partition(",")[0] for row in table} == set(load().use_cases)
    assert {row.model for row in table} == set(load().models)
    assert {"gpu", "cpu", "experts-on-cpu"} <= {row.where for row in table}
    assert len({(row.machine, row.asked) for row in table}) == len(table), "no scenario twice"
    assert all(len(row.why) > 15 for row in table)


def test_no_pick_is_slower_than_usable() -> None:
    for row in rows():
        assert pick(row).speed.decode >= 3, row.machine
