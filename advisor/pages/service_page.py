"""What to serve many users with, for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from advisor.services.service import Service


def headline(service: Service) -> Text:
    """What it is, in a line."""
    drafter = "with its drafter" if service.draft_tokens else "without a drafter"
    return Text.assemble(
        ("For many users  ", "dim"),
        (service.name, "bold"),
        f"  {service.quant}, {drafter}, on {service.backend}",
    )


def loads(service: Service) -> Table:
    """Tokens per second by users."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("users", "tokens/s", "range", "each", "plain", "drafter"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in service.loads:
        table.add_row(
            f"{one.users:,}",
            rounded(one.tokens_per_s),
            f"{rounded(one.low)} to {rounded(one.high)}",
            rounded(one.each),
            rounded(one.plain_tokens_per_s),
            f"{one.drafter_gain:.2f}x" if service.draft_tokens else "none",
        )
    return table


def rounded(value: float) -> str:
    """Two digits that mean something."""
    return f"{float(f'{value:.2g}'):,.0f}"


def reasons(service: Service) -> Table:
    """Why, one sentence a line."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for reason in service.reasons:
        grid.add_row("-", reason)
    return grid
