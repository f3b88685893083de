"""The other deeds of `advisor trial`: show, drop, write down and take in what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
import msgspec

from advisor.errors import UsageError, unknown_name
from advisor.knowledge import catalog
from advisor.pages.trial_words import length_in_words
from advisor.prediction import measurements
from advisor.prediction.measurements import Measurement
from advisor.trials import calibration
from advisor.units import format_rate

SHOWN = 40


def act(model: str | None, *, forget: bool, export: Path | None, import_: Path | None, as_json: bool) -> None:
    """One of them; without any, the history.

    Raises:
        UsageError: nothing of that name was measured.
        RuntimeFailed: a file cannot be read or written.
    """
    if import_ is not None:
        from advisor.trials import sharing  # noqa: PLC0415

        new, same = sharing.take_in(import_)
        _say(
            {"imported": new, "of_this_hardware": same},
            f"{counted(new)} new, {same} of hardware like this",
            as_json,
        )
        return
    wanted = _about(model)
    if forget:
        count = measurements.forget(wanted if model else None)
        _say({"forgotten": count}, f"{counted(count)} dropped", as_json)
        return
    found = [one for one in measurements.recall() if wanted(one)]
    if export is not None:
        from advisor.trials import sharing  # noqa: PLC0415

        count = sharing.export(export, found, catalog.load())
        _say({"exported": count, "file": str(export)}, f"{counted(count)} in {export}", as_json)
        return
    _history(found, as_json=as_json)


def _about(model: str | None) -> Callable[[Measurement], bool]:
    """Whether a measurement is of that model, by its name or its file's.

    Raises:
        UsageError: none is.
    """
    if model is None:
        return lambda _: True
    name = Path(model).stem if model.lower().endswith(".gguf") else model.lower()

    def wanted(one: Measurement) -> bool:
        return name in (one.model, one.model.lower(), Path(one.target.name).stem)

    there = measurements.recall()
    if not there:
        raise UsageError("nothing was measured yet", command=f"advisor trial {model}")
    if not any(map(wanted, there)):
        names = {one.model for one in there}
        raise unknown_name("model in what was measured", model, names, command="advisor trial --history")
    return wanted


def counted(number: int) -> str:
    return f"{number:,} measurement{'s' if number != 1 else ''}"


def _say(document: dict[str, object], words: str, as_json: bool) -> None:
    click.echo(msgspec.json.encode(document) if as_json else words)


def _history(found: Iterable[Measurement], *, as_json: bool) -> None:
    shown = list(found)
    if as_json:
        click.echo(msgspec.json.encode({"schema": "advisor.trial-history/1", "measurements": shown}))
        return
    lines = [one for one in shown if _is_result(one)]
    if not lines:
        click.echo("nothing was measured yet: `advisor trial` does")
        return
    from advisor.hardware.detection import detect  # noqa: PLC0415
    from advisor.prediction import known  # noqa: PLC0415

    machine = detect(catalog.load().devices.values())
    here = measurements.fingerprint(machine)
    for one in lines[-SHOWN:]:
        elsewhere = "" if one.machine == here else "on other hardware"
        note = elsewhere or known.retired(one, machine)
        click.echo(
            f"{one.date[:10]}  {one.source:<8}  {_subject(one):<34}  {_result(one)}" + (f"  ({note})" if note else "")
        )
    click.echo(f"{counted(len(shown))} in {measurements.file()}")


def _is_result(one: Measurement) -> bool:
    """Of a trial, its decision about all work together; of others, everything."""
    if one.source == "calibration":
        return one.kind == calibration.MEMORY
    return one.source == "launch" or (not one.kind and one.chosen)


def _subject(one: Measurement) -> str:
    return " ".join(part for part in (one.model, one.quant, "on", one.backend) if part)


def _result(one: Measurement) -> str:
    rate = f"{one.tokens_per_s:,.1f} tokens/s"
    if one.source == "calibration":
        return f"main memory is read at {format_rate(round(one.bytes_per_s or 0))}"
    if one.source == "launch":
        expected = f", {one.expected_tokens_per_s:,.1f} expected" if one.expected_tokens_per_s else ""
        return (
            f"{length_in_words(one.draft_tokens)} drafted, {rate}{expected}"
            if one.draft_tokens
            else f"{rate}{expected}"
        )
    if one.verdict == "keep":
        return f"keep, {length_in_words(one.draft_tokens)} drafted: {one.gain:.2f}x, {rate}"
    return f"{one.verdict}: plain, {rate}"
