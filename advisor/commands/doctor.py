"""`advisor doctor`: what is wrong or limited here, how to mend it, and what that was read from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
import msgspec

from advisor import __version__
from advisor.catalog import load
from advisor.commands.detect import Line, machine_lines, show
from advisor.detection import detect
from advisor.errors import ProfileError
from advisor.machine import Machine, Problem
from advisor.probes import nvidia
from advisor.probes.diagnosis import diagnose
from advisor.probes.host import Findings, Local, Recorder, ToolError
from advisor.profile import Device

if TYPE_CHECKING:
    from advisor.checks import Check

PCI = "/sys/bus/pci/devices/"
"""Every device is asked for its vendor; printed, they would be most of the report."""

SOURCE, SAMPLE = 42, 24
"""Characters of each path or command line, and of what it said, that are printed; --json has them all."""


@click.command(epilog="\b\nExamples:\n  advisor doctor\n  advisor doctor --json > report.json")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with everything that was read.")
def command(*, as_json: bool) -> None:
    """Say what is wrong or limited here and how to mend it; each runtime is tried with a small answer. Ends with 0.

    The JSON holds what every probe read, word for word, so that a report can be replayed elsewhere. It contains
    hardware names, kernel version and memory figures, but no user names, addresses or serial numbers.
    """
    devices, broken = _devices()
    recorder = Recorder(Local())
    machine = detect(devices, host=recorder)
    _record_nvidia(recorder, machine)
    problems = (*broken, *diagnose(machine))
    findings = recorder.findings()
    tried = _checks(machine)
    if as_json:
        click.echo(msgspec.json.encode(_document(problems, machine, findings) | {"checks": tried}))
        return
    lines = [*machine_lines(machine), ("", ""), *_check_lines(tried), ("", ""), *_problem_lines(problems)]
    show([*lines, ("", ""), *_finding_lines(findings)])


def _checks(machine: Machine) -> tuple[Check, ...]:
    """What was tried out, runtimes included."""
    from advisor import checks  # noqa: PLC0415 - an HTTP client, for those who ask
    from advisor.progress import busy  # noqa: PLC0415

    with busy("trying the runtimes"):
        return tuple(checks.everything(machine))


def _check_lines(tried: Iterable[Check]) -> list[Line]:
    lines: list[Line] = []
    for check in tried:
        lines.append((check.status.upper(), f"{check.name}: {check.message}"))
        lines += [("", f"> {check.mend}")] if check.mend else []
    return lines


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


def _problem_lines(problems: tuple[Problem, ...]) -> list[Line]:
    if not problems:
        return [("Findings", "none: everything looks well")]
    lines = [("Findings", str(len(problems)))]
    for problem in problems:
        lines.append((f"  {problem.probe}", problem.message))
        lines += [("", f"> {problem.hint}")] if problem.hint else []
    return lines


def _finding_lines(findings: Findings) -> list[Line]:
    """What was read, one line each: enough to see where a figure is from."""
    lines = [("Read", "the beginning of each; advisor doctor --json has everything")]
    for source, text in (*findings.files.items(), *findings.tools.items()):
        if source.startswith(PCI):
            continue
        lines.append(("", f"{_cut(source, SOURCE)}  {_cut(' '.join(text[:SAMPLE].split()), SAMPLE)}"))
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
