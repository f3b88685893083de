"""What the README says: its commands are understood, and its table of models is the catalogue's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from advisor import cli
from advisor.knowledge import catalog

README = (Path(__file__).parents[2] / "README.md").read_text()
WRITTEN = re.findall(
    r"^(?:\$ )?(advisor(?: [^|#\n]*)?)", "\n".join(re.findall(r"```\n(.*?)```", README, re.DOTALL)), re.MULTILINE
)
IN_TEXT = re.findall(r"`(advisor [^`]*)`", README)


@pytest.mark.parametrize("line", sorted({*map(str.strip, WRITTEN), *IN_TEXT}))
def test_its_commands_are_understood(line: str) -> None:
    """As far as it can be told without running them: command, options and values are parsed."""
    context = cli.cli.make_context("advisor", shlex.split(line)[1:])
    command, words = cli.cli, context._protected_args + context.args  # click keeps them apart until it invokes
    while isinstance(command, click.Group) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None and name is not None
        context = found.make_context(name, words, parent=context)
        command, words = found, context.args


def test_there_are_commands_to_try() -> None:
    assert len(WRITTEN) > 10
    assert "advisor recommend" in WRITTEN[0]


@pytest.mark.parametrize("model", catalog.load().models.values(), ids=lambda model: model.id)
def test_its_table_is_the_catalogues(model: catalog.ModelProfile, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = re.findall(rf"^\| {model.name.removeprefix('Gemma 4 ')} \|(.*)\|$", README, re.MULTILINE)
    layers, _, _, context, _, size, cache, drafter = (cell.strip() for cell in row.split("|"))
    code = cli.run(["estimate", model.id, "--context", "32768", "--json", "--simulate", "RTX 4090, 64GB"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0 and found["model"]["quant"].startswith("QAT")
    assert layers == str(model.architecture.layers)
    assert context == f"{model.context_tokens >> 10}K"
    assert size == f"{found['model']['file_bytes'] / 1e9:.1f} GB"
    assert cache == f"{found['memory']['kv_cache_bytes'] >> 20:,} MiB"
    assert drafter == f"{found['drafter']['file_bytes'] / 1e6:.0f} MB"
