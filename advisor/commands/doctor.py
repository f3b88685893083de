"""`advisor doctor`: what is wrong or limited here, how to mend it, and what that was read from."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
import msgspec

from advisor import __version__
from advisor.commands.detect import Line, machine_lines, show
from advisor.doctor import privacy
from advisor.errors import ProfileError
from advisor.hardware.detection import detect
from advisor.hardware.probes import nvidia
from advisor.hardware.probes.diagnosis import diagnose
from advisor.hardware.probes.host import Findings, Local, Recorder, ToolError
from advisor.knowledge.catalog import load
from advisor.knowledge.profile import Device
from advisor.machine import Machine, Problem

if TYPE_CHECKING:
    from advisor.doctor.check import Check


EPILOG = """\b
Examples:
  advisor doctor
  advisor doctor --json | jq '.checks[] | select(.status != "pass")'
  advisor doctor --raw > report.json

\b
PASS: as it should be. WARN: it works, but could work better.
FAIL: it does not work. Lines with > say what to do; commands come last.
The exit code is 0 in any case.
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.doctor/1), with what was read.")
@click.option("--raw", is_flag=True, help="For a bug report: print only what was read and what the runtimes printed.")
def command(*, as_json: bool, raw: bool) -> None:
    """Find out what is wrong or limited here and how to mend it. Each runtime has to give a small answer.

    The JSON holds what every probe read, word for word, so that a report can be replayed elsewhere: hardware names,
    kernel version and memory figures, but no user or host names, home folders, addresses or serial numbers.
    """
    private = privacy.mask()
    devices, broken = _devices()
    recorder = Recorder(Local())
    machine = detect(devices, host=recorder)
    _record_nvidia(recorder, machine)
    problems = (*broken, *diagnose(machine))
    if raw:
        _print(_raw(machine, recorder.findings()), private)
        return
    tried = _checks(machine, problems)
    if as_json:
        _print(_document(problems, machine, recorder.findings()) | {"checks": tried}, private)
        return
    show([(label, private(text)) for label, text in (*machine_lines(machine), ("", ""), *_check_lines(tried))])
    for check in tried:
        if check.command:
            # Apart from the table, which would break the line, and as it is: it is to be copied.
            click.echo(f"\n# {check.name}\n{check.command}")


def _print(document: dict[str, object], private: Callable[[str], str]) -> None:
    click.echo(msgspec.json.encode(privacy.masked(msgspec.to_builtins(document), private)))


def _checks(machine: Machine, problems: tuple[Problem, ...]) -> tuple[Check, ...]:
    """What was tried out, runtimes included."""
    from advisor.console.progress import busy  # noqa: PLC0415
    from advisor.doctor import checks  # noqa: PLC0415 - an HTTP client, for those who ask

    with busy("trying the runtimes"):
        return tuple(checks.everything(machine, problems))


def _check_lines(tried: tuple[Check, ...]) -> list[Line]:
    lines: list[Line] = []
    for check in tried:
        lines.append((check.status.upper(), f"{check.name}: {check.message}"))
        lines += [("", f"> {check.mend}")] if check.mend else []
    counts = {status: sum(check.status == status for check in tried) for status in ("fail", "warn")}
    said = " and ".join(f"{number} {status.upper()}" for status, number in counts.items() if number)
    return [*lines, ("", ""), ("Result", f"{said} of {len(tried)} checks" if said else "all is well")]


def _devices() -> tuple[Iterable[Device], tuple[Problem, ...]]:
    """The catalogue's devices; a broken catalogue is a finding like any other."""
    try:
        return load().devices.values(), ()
    except ProfileError as error:
        return (), (Problem(probe="catalogue", message=error.message, hint=error.hint or None),)


def _record_nvidia(recorder: Recorder, machine: Machine) -> None:
    """NVML answers in C structures; for a report that replays, the tool says the same in text."""
    if any(gpu.vendor == "nvidia" for gpu in machine.gpus):
        for tool in (nvidia.SMI, nvidia.LIST):
            with contextlib.suppress(ToolError):
                recorder.run(tool)


def _document(problems: tuple[Problem, ...], machine: Machine, findings: Findings) -> dict[str, object]:
    return {
        "schema": "advisor.doctor/1",
        "advisor_version": __version__,
        "problems": problems,
        "machine": machine,
        "findings": findings,
    }


def _raw(machine: Machine, findings: Findings) -> dict[str, object]:
    """`advisor.raw/1`: what was read and printed, and nothing made of it."""
    from advisor.console.progress import busy  # noqa: PLC0415
    from advisor.doctor import builds  # noqa: PLC0415

    with busy("asking the runtimes"):
        printed = builds.reports()
    return {
        "schema": "advisor.raw/1",
        "advisor_version": __version__,
        "python": sys.version,
        "findings": findings,
        "backends": machine.backends,
        "printed": printed,
    }
