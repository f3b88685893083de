"""`advisor cost`: what a million tokens costs here, with and without the drafter, against hosted prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from advisor.errors import NothingFits, UsageError
from advisor.knowledge import catalog

EPILOG = """\b
Examples:
  advisor cost 26b --price-per-hour 0.60
  advisor cost 12b --watts 350 --price-per-kwh 0.30 --currency EUR
  advisor cost 31b --price-per-hour 2.10 --simulate "H100, 64GB" --plot c.svg

\b
Speeds are measured ones where `advisor trial` was run here, else predicted.
Exit codes: 0 done, 2 wrong usage, 3 it does not fit, 4 no backend.
"""


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.option("--price-per-hour", type=float, metavar="P", help="What the machine costs per hour, rented or bought.")
@click.option("--watts", type=float, metavar="W", help="Power that it draws at work; goes with --price-per-kwh.")
@click.option("--price-per-kwh", type=float, metavar="K", help="Price of electricity.")
@click.option("--currency", metavar="C", help="Currency of these prices, such as EUR; by default USD.")
@click.option(
    "--answer-share",
    type=click.FloatRange(0.01, 1),
    default=0.25,
    show_default=True,
    metavar="S",
    help="Share of answers among all tokens.",
)
@click.option("--quant", metavar="Q", help="File of the catalogue, such as Q8_0.")
@click.option("--context", type=click.IntRange(min=1), metavar="N", help="Context length in tokens.")
@click.option("--backend", metavar="B", help="llama.cpp, ollama, native or a plugin; by default the best one here.")
@click.option("--simulate", "spec", metavar="SPEC", help='A machine to imagine: "RTX 4090, 64GB", "M3 Max 64GB".')
@click.option(
    "--machine",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another machine, as `detect --json` described it.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw a chart: FILE.svg or FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.cost/1).")
def command(
    model: str | None,
    *,
    price_per_hour: float | None,
    watts: float | None,
    price_per_kwh: float | None,
    currency: str | None,
    answer_share: float,
    quant: str | None,
    context: int | None,
    backend: str | None,
    spec: str | None,
    file: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """What a million tokens of MODEL cost on this machine, and from how many hours a day it beats hosted services.

    MODEL is e2b, e4b, 12b, 26b or 31b; by default it is the recommendation.
    """
    from advisor.choice import estimate, subject  # noqa: PLC0415
    from advisor.choice.ranking import Request, rank  # noqa: PLC0415
    from advisor.choice.request import choose_backend, reads_checkpoints  # noqa: PLC0415
    from advisor.commands.recommend import the_machine  # noqa: PLC0415
    from advisor.money import economics  # noqa: PLC0415
    from advisor.money.cost import price  # noqa: PLC0415
    from advisor.pages import chart  # noqa: PLC0415

    if plot is not None:
        chart.check(plot)
    asked_so = " ".join(["advisor cost", *([model] if model else [])])
    money = price(price_per_hour, watts, price_per_kwh, currency, command=asked_so)
    if money is None:
        raise UsageError(
            "a cost needs a price: --price-per-hour, or --watts with --price-per-kwh",
            command=f"{asked_so} --price-per-hour 0.60",
        )
    known = catalog.load()
    machine = the_machine(spec, file, known)
    if model is None:
        pick = rank(Request(backend=backend, context_tokens=context), machine, known).recommendations[0].candidate
        model, quant = pick.model.id, quant or pick.quant.name
    about = subject.from_catalogue(known.model(model), quant)
    if backend in known.runtimes:
        raise reads_checkpoints(backend, model)
    chosen = choose_backend(backend, machine, known.use_case("chat"))
    draft = subject.usual_draft(about) if chosen.drafter else None
    if draft is not None:
        draft = msgspec.structs.replace(draft, given=True)  # counted also where it does not pay: that is the question
    asked = estimate.question(about, chosen, context=context)
    found = estimate.estimate(about, asked, draft, "", machine=machine, catalog=known)
    if not found.fits:
        raise NothingFits("; ".join([f"{about.name} {about.quant}", *found.warnings]), command="advisor recommend")
    reckoned = economics.economics(found, money, answer_share=answer_share, always_paid=price_per_hour is not None)
    if as_json:
        click.echo(msgspec.json.encode(document(found, reckoned)))
    else:
        from advisor.pages import cost_page  # noqa: PLC0415

        cost_page.show(found, reckoned)
    if plot is not None:
        from advisor.pages import cost_page  # noqa: PLC0415

        chart.write(plot, cost_page.chart(found, reckoned))


def document(found: Any, reckoned: Any) -> dict[str, Any]:
    """`advisor.cost/1`."""
    from advisor.money.economics import SCHEMA  # noqa: PLC0415

    fields = msgspec.to_builtins(reckoned)
    about, asked = found.subject, found.question
    return {
        "schema": SCHEMA,
        "model": about.profile.id,
        "quant": about.quant,
        "backend": asked.backend.name,
        "context_tokens": asked.context_tokens,
        "currency": reckoned.price.currency,
        "price_per_hour": reckoned.price.per_hour,
        **{name: fields[name] for name in ("depth_tokens", "answer_share", "lines", "saving", "break_even", "notes")},
    }
