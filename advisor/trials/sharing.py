"""What was measured, written down for others, and what others wrote down: `advisor.measurements/1`.

One JSON file with names of hardware and of the catalogue's files, versions and figures: no paths, prompts, answers,
host or user names, and nothing of files that are not in the catalogue. What is read in is checked field by field and
marked as somebody else's: it counts as catalogue data for the same hardware, never as measured here.
`docs/measurements.md` describes the format.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from advisor.errors import ProfileError, RuntimeFailed
from advisor.knowledge.catalog import Catalog
from advisor.prediction import measurements
from advisor.prediction.measurements import Measurement

SCHEMA: Final = "advisor.measurements/1"
LARGEST = 4 << 20
"""Bytes of a file that is read in."""
FASTEST = 1e6
"""Tokens per second beyond which a figure is none."""

Name = Annotated[str, Meta(max_length=120, pattern=r"^[^\x00-\x1f\x7f/\\]*$")]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{0,64}$")]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
Size = Annotated[int, Meta(ge=0, le=1 << 50)]
Count = Annotated[int, Meta(ge=0, le=1 << 24)]
Speed = Annotated[float, Meta(gt=0, le=FASTEST)]
Some = Annotated[float, Meta(ge=0, le=FASTEST)]
Share = Annotated[float, Meta(ge=0, le=1)]


class SharedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    size: Size
    mark: Hash = ""


class Shared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement, as `measurements.Measurement`; the date without the time of day."""

    date: Day
    model: Name
    quant: Name
    target: SharedFile
    drafter: SharedFile | None
    backend: Name
    build: Name
    machine: Hash
    hardware: Annotated[tuple[Name, ...], Meta(max_length=32)]
    drivers: Name
    placement: Name
    kv_type: Name
    context_tokens: Count
    depth_tokens: Count
    kind: Name
    draft_tokens: Annotated[int, Meta(ge=-1, le=64)]
    tokens_per_s: Speed
    low: Some | None
    high: Some | None
    n: Count
    gain: Some | None
    gain_low: Some | None
    gain_high: Some | None
    chosen: bool
    verdict: Literal["", "keep", "drop", "unclear"]
    acceptance: Annotated[tuple[Share, ...], Meta(max_length=64)]
    prefill_tokens_per_s: Some | None
    first_token_s: Some | None
    memory_bytes: Size | None
    expected_tokens_per_s: Some | None


class SharedDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["advisor.measurements/1"]
    measurements: Annotated[tuple[Shared, ...], Meta(max_length=20_000)]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file."""
    (schema,), definitions = msgspec.json.schema_components([SharedDocument], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        "title": f"advisor trial --export ({SCHEMA})",
        **schema,
        "$defs": definitions,
    }


def export(path: Path, found: Iterable[Measurement], catalog: Catalog) -> int:
    """Write one's own trials of the catalogue's models; returns how many measurements they are.

    Raises:
        RuntimeFailed: there is nothing to write, or it cannot be written.
    """
    public = public_files(catalog)
    shared = tuple(
        as_shared(one)
        for one in found
        if one.source == "trial"
        and one.tokens_per_s > 0
        and {one.target.name, (one.drafter or one.target).name} <= public
    )
    if not shared:
        raise RuntimeFailed(
            "there is nothing to share: only trials of the catalogue's models are", command="advisor trial --history"
        )
    document = SharedDocument(schema=SCHEMA, measurements=shared)
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    except OSError as error:
        raise RuntimeFailed(f"{path} cannot be written: {error.strerror or error}") from None
    return len(shared)


def public_files(catalog: Catalog) -> set[str]:
    """Names of files that everybody has: the catalogue's. Those of one's own files may tell what nobody asked for."""
    models = catalog.models.values()
    names = {quant.file for model in models for quant in model.quants}
    names |= {file.file for model in models for file in model.drafter.files}
    return {name.rpartition("/")[2] for name in names}


def as_shared(one: Measurement) -> Shared:
    """Field by field what may be told: a field that is added to measurements is not shared by accident."""
    fields = msgspec.to_builtins(one)
    chosen = {name: fields[name] for name in Shared.__struct_fields__}
    return msgspec.convert(chosen | {"date": one.date[:10]}, Shared)


def read(path: Path) -> tuple[Measurement, ...]:
    """What somebody else measured, checked and marked as such.

    Raises:
        ProfileError: it is no such file, naming what is wrong.
        RuntimeFailed: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise RuntimeFailed(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > LARGEST:
        raise ProfileError(f"{path.name}: larger than {LARGEST >> 20} MiB")
    try:
        document = msgspec.json.decode(content, type=SharedDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(
            f"{path.name}: {error}", hint=f"a file of `advisor trial --export` ({SCHEMA}) is expected"
        ) from None
    for place, one in enumerate(document.measurements):
        check(one, f"{path.name}: measurements[{place}]")
    return tuple(as_imported(one) for one in document.measurements)


def check(one: Shared, where: str) -> None:
    """What types cannot say.

    Raises:
        ProfileError: the figures contradict each other.
    """
    if not isfinite(one.tokens_per_s):
        raise ProfileError(f"{where}: tokens_per_s is not a finite number")
    for low, middle, high in (
        (one.low, one.tokens_per_s, one.high),
        (one.gain_low, one.gain, one.gain_high),
    ):
        known = [value for value in (low, middle, high) if value is not None]
        if known != sorted(known):
            raise ProfileError(f"{where}: an interval does not hold its value: {', '.join(map(str, known))}")


def as_imported(one: Shared) -> Measurement:
    fields = msgspec.to_builtins(one)
    return msgspec.convert(fields | {"source": "imported", "date": f"{one.date}T00:00:00Z"}, Measurement)


def take_in(path: Path) -> tuple[int, int]:
    """Keep what a file says; returns how many measurements are new, and how many of them are of this very hardware's
    kind.

    Raises:
        AdvisorError: as `read`, or it cannot be kept.
    """
    from advisor.hardware.detection import detect  # noqa: PLC0415
    from advisor.knowledge import catalog  # noqa: PLC0415

    found = read(path)
    there = {msgspec.json.encode(one) for one in measurements.recall() if one.source == "imported"}
    new = [one for one in found if msgspec.json.encode(one) not in there]
    measurements.keep(*new)
    here = measurements.fingerprint(detect(catalog.load().devices.values(), backends=False))
    return len(new), sum(one.machine == here for one in new)
