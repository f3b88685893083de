"""Imports point one way: a package of the core knows those before it, and none behind it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import advisor

ROOT = Path(advisor.__file__).parent
LAYERS = (
    "console",
    "knowledge",
    "memory",
    "files",
    "hardware",
    "prediction",
    "choice",
    "money",
    "running",
    "doctor",
    "services",
    "trials",
    "pages",
    "commands",
    "tui",
)
"""From what knows nothing to what knows all; modules beside them are either for everybody or know everybody."""
MAY = {"tui": {"api", "cli"}}
"""The wizard runs the commands that its screens print."""
EVERYBODYS = {"errors", "machine", "paths", "units"}


def imported(path: Path) -> Iterator[str]:
    """Names below `advisor` that a file imports, anywhere in it: `choice` of `from advisor.choice import ranking`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "advisor" else [f"advisor.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        else:
            continue
        yield from (
            name.split(".")[1] for name in names if name.startswith("advisor.") and name != "advisor.__version__"
        )


def test_every_package_has_its_place() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_package_knows_those_before_it(layer: str) -> None:
    known = {*EVERYBODYS, *LAYERS[: LAYERS.index(layer) + 1], *MAY.get(layer, ())}
    found = {(str(path.relative_to(ROOT)), name) for path in (ROOT / layer).rglob("*.py") for name in imported(path)}
    assert not {each for each in found if each[1] not in known}


@pytest.mark.parametrize("name", sorted(EVERYBODYS))
def test_what_everybody_knows_knows_nobody(name: str) -> None:
    assert set(imported(ROOT / f"{name}.py")) <= EVERYBODYS
