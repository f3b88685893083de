"""What an estimate is about: a file of the catalogue or any Gemma 4 GGUF, and the drafter that may go with it."""

from __future__ import annotations

from pathlib import Path

from advisor.choice.candidates import drafter_file
from advisor.errors import unknown_name
from advisor.files import gguf, shapes
from advisor.files.gguf import Header
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import Architecture, Drafter, DrafterFile, ModelProfile, Quant
from advisor.machine import Record
from advisor.memory.footprint import Weights
from advisor.memory.footprint import weights as catalogue_weights


class Subject(Record, frozen=True, kw_only=True):
    """What is estimated. `header`: where it was read from a file; `profile`: where it has the shape of a known size."""

    name: str
    file: str
    repo: str
    quant: str
    file_bytes: int
    architecture: Architecture
    weights: Weights
    profile: ModelProfile | None = None
    header: Header | None = None
    quant_record: Quant | None = None


class Draft(Record, frozen=True, kw_only=True):
    """A drafter that could be loaded. `given`: the user named it, so it counts whatever it gains."""

    record: Drafter
    file: DrafterFile
    header: Header | None = None
    given: bool = False


def from_catalogue(profile: ModelProfile, quant_name: str | None) -> Subject:
    """A file of the catalogue; the smallest one that was trained for its format where none is named.

    Raises:
        UsageError: the model has no such file.
    """
    named = {quant.name.lower(): quant for quant in profile.quants}
    if quant_name is not None and quant_name.lower() not in named:
        raise unknown_name(f"quant of {profile.id}", quant_name, [quant.name for quant in profile.quants])
    trained = [quant for quant in profile.quants if quant.qat] or list(profile.quants)
    quant = named[quant_name.lower()] if quant_name else min(trained, key=lambda one: one.bytes)
    return Subject(
        name=profile.name,
        file=quant.file,
        repo=quant.repo,
        quant=quant.name,
        file_bytes=int(quant.bytes),
        architecture=profile.architecture,
        weights=catalogue_weights(profile.architecture, quant),
        profile=profile,
        quant_record=quant,
    )


def from_header(header: Header, source: str, catalog: Catalog) -> Subject:
    """Any Gemma 4 GGUF.

    Raises:
        RuntimeFailed: it is another kind of file, or its settings cannot be.
    """
    gguf.checked_target(header)
    shape = shapes.architecture(header)
    profile = shapes.profile_of(shape, catalog)
    return Subject(
        name=profile.name if profile else header.name,
        file=header.path.name,
        repo=source,
        quant=shapes.quant_of(header),
        file_bytes=header.total_bytes,
        architecture=shape,
        weights=shapes.weights(header),
        profile=profile,
        header=header,
    )


def usual_draft(subject: Subject) -> Draft | None:
    """The catalogue's drafter for this size, if it is one."""
    if subject.profile is None:
        return None
    quant = subject.quant_record or min(subject.profile.quants, key=lambda one: abs(one.bytes - subject.file_bytes))
    file = drafter_file(subject.profile.drafter, quant)
    return Draft(record=subject.profile.drafter, file=file) if file else None


def given_draft(header: Header, subject: Subject) -> Draft:
    """The drafter that the user named.

    Raises:
        RuntimeFailed: it does not belong to the subject.
    """
    if subject.header is not None:
        gguf.checked_drafter(header, subject.header)
    else:
        gguf.checked_drafter(header, stand_in(subject))
    record, file = shapes.drafter_record(header, subject.profile)
    return Draft(record=record, file=file, header=header, given=True)


def stand_in(subject: Subject) -> Header:
    """What a drafter is checked against where the target's file is not here."""
    shape = subject.architecture
    return Header(
        path=Path(subject.file),
        values={
            "general.architecture": gguf.TARGET,
            f"{gguf.TARGET}.embedding_length": shape.hidden,
            f"{gguf.TARGET}.vocab_size": shape.vocab,
        },
        arrays={},
        lengths={},
        tensors={},
        total_bytes=subject.file_bytes,
    )
