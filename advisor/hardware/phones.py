"""Phones, which can only be given advice: which app to install there, and which file it takes."""

from __future__ import annotations

from advisor.knowledge import catalog
from advisor.knowledge.profile import Checkpoint, ModelProfile
from advisor.units import format_file_size

SYSTEMS = frozenset({"android", "ios"})


def advice(model: ModelProfile, system: str) -> str:
    """What to install on a phone for this model and which file to choose; empty elsewhere, or where no app has one."""
    for runtime in catalog.load().runtimes.values():
        file = next((one for one in model.checkpoints if runtime.id in one.runtimes and one.file), None)
        if file is not None and (app := runtime.apps.get(system)):
            return f"on the phone: {app}, with {_named(file)}{_drafting(file)}"
    return ""


def _named(file: Checkpoint) -> str:
    return f"{file.file} ({format_file_size(int(file.bytes))}) of {file.repo}"


def _drafting(file: Checkpoint) -> str:
    return "" if file.drafter else "; its drafter is inside, to be switched on as speculative decoding"
