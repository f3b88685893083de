"""`advisor schema`: the JSON Schema of `recommend --json`."""

from __future__ import annotations

import json

import click

from advisor.report import json_schema


@click.command(epilog="\b\nExample:\n  advisor schema > advisor.recommend.schema.json")
@click.option("--json", "as_json", is_flag=True, help="Accepted for symmetry: the output is JSON in any case.")
def command(*, as_json: bool) -> None:  # noqa: ARG001 - see its help
    """Print the JSON Schema (2020-12) of what `advisor recommend --json` prints."""
    click.echo(json.dumps(json_schema(), indent=2))
