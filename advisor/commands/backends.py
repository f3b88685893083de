"""`advisor backends`: what can run models here, and what the others need."""

from __future__ import annotations

import click
import msgspec

from advisor.commands.detect import Line, backend_text, show
from advisor.machine import Availability
from backends.base import availabilities


@click.command(epilog="\b\nExamples:\n  advisor backends\n  advisor backends --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: a list of backends.")
def command(*, as_json: bool) -> None:
    """Show which backends can run models here, and what to do about those that cannot."""
    found = list(availabilities())
    if as_json:
        click.echo(msgspec.json.encode({"schema": "advisor.backends/1", "backends": found}))
        return
    show([line for backend in found for line in _lines(backend)] or [("none", "no backend is registered")])


def _lines(backend: Availability) -> list[Line]:
    text = backend_text(backend).removeprefix(backend.name).lstrip(": ")
    lines = [(backend.name, text)]
    lines += [("", backend.path)] if backend.path else []
    return lines + ([("", f"> {backend.hint}")] if backend.hint else [])
