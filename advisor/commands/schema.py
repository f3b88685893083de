"""`advisor schema`: the JSON Schema of `recommend --json`."""

from __future__ import annotations

import importlib
import json

import click

from advisor.errors import unknown_name

SCHEMAS = {
    "recommend": "advisor.pages.report",
    "trial": "advisor.pages.trial_document",
    "measurements": "advisor.trials.sharing",
}
"""Modules with a `json_schema`, by the command whose document it describes."""


@click.command(epilog="\b\nExamples:\n  advisor schema > advisor.recommend.schema.json\n  advisor schema trial")
@click.argument("name", default="recommend", metavar="[NAME]")
@click.option("--json", "as_json", is_flag=True, help="Accepted for symmetry; the output is always JSON.")
def command(name: str, *, as_json: bool) -> None:  # noqa: ARG001 - see its help
    """Print the JSON Schema (2020-12) of what `advisor recommend --json` prints.

    NAME may also be `trial`, or `measurements`: the file that `advisor trial --export` writes.
    """
    if name not in SCHEMAS:
        raise unknown_name("schema", name, SCHEMAS, command="advisor schema --help")
    click.echo(json.dumps(importlib.import_module(SCHEMAS[name]).json_schema(), indent=2))
