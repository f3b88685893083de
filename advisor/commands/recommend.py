"""`advisor recommend`: the Gemma 4 that suits a machine, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click
import msgspec

from advisor.choice.candidates import Prefer
from advisor.choice.ranking import rank
from advisor.choice.request import Request
from advisor.errors import UsageError, unknown_name
from advisor.hardware import simulate
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.pages.report import document
from advisor.services import serving
from advisor.units import parse_bytes, parse_rate

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  advisor recommend
  advisor recommend --use-case coding --prefer quality
  advisor recommend --simulate "RTX 4090, 64GB" --context 32768
  advisor recommend --simulate "M3 Max 64GB" --json
  advisor recommend --simulate "A10G, 64GB" --price-per-hour 0.60
  advisor detect --json > box.json; advisor recommend --machine box.json

\b
Exit codes: 0 a pick, 2 wrong usage, 3 nothing fits, 4 no backend can do it.
"""


def one_of(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A value of `--prefer`, in any case."""
    if value is None:
        return None
    if value.lower() not in get_args(Prefer):
        raise unknown_name(f"value of --{parameter.name}", value, get_args(Prefer), command="advisor recommend --help")
    return value.lower()


def correcting(command: F) -> F:
    """The options for what the user knows better than the probes; the same for all commands that look at a machine."""
    memory = click.option(
        "--memory", metavar="SIZE", help="Use this instead of the main memory detected, such as 16GB."
    )
    gpu = click.option(
        "--gpu", metavar="G", help='Use this instead of the GPU detected: "RTX 4060", "2x RTX 3090" or none.'
    )
    return gpu(memory(command))


@click.command(epilog=EPILOG)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document (advisor.recommend/1, see `advisor schema`)."
)
@click.option(
    "--use-case",
    metavar="U",
    default="chat",
    show_default=True,
    help="chat, coding, reasoning, agents, vision, audio, long-context, mobile, desktop, production or max-quality.",
)
@click.option("--context", type=int, metavar="N", help="Context length in tokens; by default the use case's.")
@click.option("--prefer", metavar="P", callback=one_of, help="balanced, quality or speed.")
@click.option(
    "--min-speed", type=float, metavar="T", help="Lowest acceptable tokens per second; by default the use case's."
)
@click.option("--backend", metavar="B", help="llama.cpp, ollama, native or a plugin; by default the best one here.")
@click.option("--model", metavar="M", help="Consider only this model: e2b, e4b, 12b, 26b or 31b.")
@click.option("--quant", metavar="Q", help="Consider only this file of --model, such as Q8_0.")
@correcting
@click.option(
    "--simulate", "spec", metavar="SPEC", help='A machine to imagine: "RTX 4090, 64GB", "M3 Max 64GB", "cpu, 16GB".'
)
@click.option(
    "--machine",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another machine, as `detect --json` described it.",
)
@click.option("--no-drafter", is_flag=True, help="Do not consider drafters.")
@click.option("--reserve", metavar="SIZE", help="Memory to leave free on each device, such as 2GiB.")
@click.option(
    "--gpu-bandwidth", metavar="RATE", help='Memory bandwidth of a GPU that is not in the catalogue: "600 GB/s".'
)
@click.option(
    "--price-per-hour", type=float, metavar="P", help="What the machine costs per hour; adds the cost per token."
)
@click.option("--watts", type=float, metavar="W", help="Power that it draws at work; goes with --price-per-kwh.")
@click.option("--price-per-kwh", type=float, metavar="P", help="Price of electricity.")
@click.option("--currency", metavar="C", help="Currency of these prices, such as EUR; by default USD.")
def command(  # noqa: PLR0917 - click passes them by name
    as_json: bool,
    use_case: str,
    context: int | None,
    prefer: str | None,
    min_speed: float | None,
    backend: str | None,
    model: str | None,
    quant: str | None,
    gpu: str | None,
    memory: str | None,
    spec: str | None,
    file: Path | None,
    no_drafter: bool,
    reserve: str | None,
    gpu_bandwidth: str | None,
    price_per_hour: float | None,
    watts: float | None,
    price_per_kwh: float | None,
    currency: str | None,
) -> None:
    """Recommend the Gemma 4 that suits this machine: model, file, placement and drafter, with memory and speed.

    Nothing is downloaded or started, and no network is used.
    """
    known = catalog.load()
    request = Request(
        use_case=use_case,
        context_tokens=context,
        prefer=cast(Prefer | None, prefer),
        min_tokens_per_s=min_speed,
        backend=backend,
        model=model,
        quant=quant,
        drafter=not no_drafter,
        reserve_bytes=None if reserve is None else the_reserve(reserve),
    )
    money = None
    if (price_per_hour, watts, price_per_kwh, currency) != (None, None, None, None):
        from advisor.money.cost import price  # noqa: PLC0415 - seldom asked for

        money = price(price_per_hour, watts, price_per_kwh, currency)
    machine = the_machine(spec, file, known, gpu=gpu, memory=memory)
    if gpu_bandwidth is not None:
        machine = with_bandwidth(machine, parse_rate(gpu_bandwidth))
    serving.check(request, machine, known)
    ranking = rank(request, machine, known)
    here = spec is None and file is None
    again = {"--backend": backend, "--gpu": gpu if here else None, "--memory": memory if here else None}
    answer = document(ranking, options={name: value for name, value in again.items() if value}, price=money)
    if as_json:
        click.echo(msgspec.json.encode(answer))
        return
    from advisor.pages import terminal  # noqa: PLC0415 - rich takes longer to import than the answer takes to find

    terminal.show(answer)


def the_reserve(text: str) -> int:
    """A size as people write it; 0 is one, unlike elsewhere."""
    return 0 if text.strip() == "0" else parse_bytes(text)


def with_bandwidth(machine: Machine, rate: int) -> Machine:
    """The machine with that bandwidth, in bytes per second, for each GPU whose own is not known."""
    gpus = tuple(
        gpu if gpu.bandwidth_bytes_per_s else msgspec.structs.replace(gpu, bandwidth_bytes_per_s=rate)
        for gpu in machine.gpus
    )
    return msgspec.structs.replace(machine, gpus=gpus)


def the_machine(
    spec: str | None, file: Path | None, known: catalog.Catalog, *, gpu: str | None = None, memory: str | None = None
) -> Machine:
    """The machine that a command is about: described, read from a file, or this one; with what is corrected of it."""
    if spec is not None and file is not None:
        raise UsageError("--simulate and --machine exclude each other", command="advisor recommend --help")
    if spec is not None:
        machine = simulate.parse(spec, known)
    elif file is not None:
        machine = simulate.read(file)
    else:
        from advisor.hardware.detection import detect  # noqa: PLC0415 - a simulated machine needs no probes

        machine = detect(known.devices.values())
    if gpu is None and memory is None:
        return machine
    from advisor.hardware.correction import corrected  # noqa: PLC0415 - seldom needed

    return corrected(machine, known, gpu=gpu, memory=memory)
