"""`advisor calibrate`: what this machine is good for, measured in a minute."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from advisor.commands.launch import ended_by_signals
from advisor.console.progress import busy
from advisor.hardware.detection import detect
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.prediction.pace import DISTURBED
from advisor.trials import calibration
from advisor.trials.calibration import Stage
from advisor.trials.costs import Calibration
from advisor.units import format_rate

EPILOG = """\b
Examples:
  advisor calibrate
  advisor calibrate --show --json

\b
Nothing is fetched. A test model (280 MB, for a GPU 840 MB) is written to the
temporary folder and removed. A GPU is timed if the native engine's llama.cpp
was built for it.
Exit codes: 0 done, 4 no engine, 6 it failed, 130 interrupted.
"""


@click.command(epilog=EPILOG)
@click.option("--show", is_flag=True, help="Show the last calibration without measuring.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.calibrate/1).")
def command(*, show: bool, as_json: bool) -> None:
    """Measure memory bandwidth, the cost of decoding 1 to 16 tokens at once and of reading a prompt; remember them.

    The cost of several tokens decides what a drafter gains: verifying a draft is one step with several tokens.
    """
    machine = detect(catalog.load().devices.values())
    if show:
        found = calibration.recalled(machine)
        if found is None and not as_json:
            click.echo("not calibrated yet with this hardware and runtime: `advisor calibrate` does")
            return
    else:
        with ended_by_signals():
            found = measured(machine)
    if as_json:
        click.echo(msgspec.json.encode(document(found)))
    elif found is not None:
        for line in lines(found):
            click.echo(line)


def measured(machine: Machine) -> Calibration:
    steps = calibration.run(machine)
    found: Stage | Calibration = next(steps)
    while isinstance(found, Stage):
        with busy(found.what):
            found = next(steps)
    return found


def document(found: Calibration | None) -> dict[str, Any]:
    """`advisor.calibrate/1`; `costs` empty where nothing was measured."""
    if found is None:
        nothing = dict.fromkeys(("machine", "build", "memory_bytes_per_s", "gpu_bytes_per_s"))
        return {"schema": calibration.SCHEMA, **nothing, "untimed": "", "costs": []}
    return {
        "schema": calibration.SCHEMA,
        "machine": found.machine,
        "build": found.build,
        "memory_bytes_per_s": found.memory_bytes_per_s,
        "gpu_bytes_per_s": round(found.gpu_bytes_per_s) if found.gpu_bytes_per_s else None,
        "untimed": found.untimed,
        "costs": [
            {
                "model": each.model,
                "placement": each.placement,
                "file_bytes": each.bytes,
                "bytes_per_s": round(each.bytes_per_s),
                "prompt_tokens_per_s": round(each.prompt_tokens_per_s, 1) if each.prompt_tokens_per_s else None,
                "times": each.times,
                "disturbed": round(each.disturbed, 2),
                "rows": [
                    {"rows": rows, "seconds": taken, "steps": round(each.relative[rows], 3)}
                    for rows, taken in sorted(each.seconds.items())
                ],
            }
            for each in found.costs
        ],
    }


def lines(found: Calibration) -> list[str]:
    """In words: bandwidth, and costs in steps of a single token."""
    told = []
    if found.memory_bytes_per_s:
        told.append(f"main memory is read at {format_rate(found.memory_bytes_per_s)}")
    if found.gpu_bytes_per_s:
        told.append(f"the GPU goes through layers at {format_rate(round(found.gpu_bytes_per_s))}")
    if found.untimed:
        told.append(f"the GPU could not be timed: {found.untimed}")
    for each in found.costs:
        rate = format_rate(round(each.bytes_per_s))
        told += ["", f"{each.where}: a token takes {1000 * each.seconds[1]:.2f} ms, weights go by at {rate}"]
        if each.prompt_tokens_per_s:
            told.append(f"a prompt is read at {each.prompt_tokens_per_s:,.0f} tokens/s")
        counts = sorted(each.seconds)
        for some in (counts[: len(counts) // 2], counts[len(counts) // 2 :]):
            told.append("tokens at once  " + "".join(f"{rows:7d}" for rows in some))
            told.append("in plain steps  " + "".join(f"{each.relative[rows]:7.2f}" for rows in some))
    disturbed = max((each.disturbed for each in found.costs), default=1.0)
    if disturbed > DISTURBED:
        told += ["", f"steps took {disturbed:.1f} times as long as the quickest: something else was at work."]
        told.append("No prediction heeds that; calibrate again when this machine is idle.")
    return told
