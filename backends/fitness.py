"""Whether a runtime that reads checkpoints is fit: installed, and late enough for Gemma's drafters and this size.

Said alike for all of them, with the line that mends it.
"""

from __future__ import annotations

from advisor.errors import NoBackend
from advisor.knowledge.profile import Runtime
from advisor.machine import Availability
from backends.base import Backend, Model
from backends.installed import reaches, system


def absent(runtime: Runtime, why: str = "not installed", *, hint: str = "", path: str | None = None) -> Availability:
    """One that is not here.

    Args:
        hint: what to do, where installing is not all.
        path: where it was looked for, where somebody said where.
    """
    install = runtime.install_line(system())
    return Availability(
        name=runtime.id, available=False, reads="checkpoint", why_not=why, path=path, hint=hint or install, mend=install
    )


def present(runtime: Runtime, version: str, path: str) -> Availability:
    """One that is here, if its version will do; one that nobody knows will."""
    why = _unfit(runtime, version)
    mend = f"{runtime.install_line(system())} --upgrade" if why else None
    return Availability(
        name=runtime.id,
        available=not why,
        version=version or None,
        drafter=not why,
        why_not=why or None,
        path=path,
        hint=mend,
        mend=mend,
        reads="checkpoint",
    )


def _unfit(runtime: Runtime, version: str) -> str:
    if reason := runtime.refused.get(version):
        return f"{runtime.name} {version} {reason}"
    if not reaches(version, runtime.floor):
        return f"{runtime.name} {version} is too old for Gemma's drafter: {runtime.floor} is the first"
    return ""


def check(backend: Backend, runtime: Runtime, model: Model) -> None:
    """What can be known of runtime and model before any file is looked at.

    Raises:
        NoBackend: the runtime is missing, too old for this model with its drafter, or does not read such files.
    """
    found = backend.detect()
    if not found.available:
        raise NoBackend(f"{runtime.name} cannot be used here: {found.why_not}", hint=found.hint or "")
    if reason := backend.refusal(model):
        raise NoBackend(reason, hint="llama.cpp and the native engine read GGUF files", command="advisor backends")
    least = runtime.least(model.name)
    if model.drafter and not reaches(found.version or "", least):
        raise NoBackend(
            f"{runtime.name} {found.version} is too old for {model.name} with its drafter: {least} is the first",
            hint=f"{runtime.install_line(system())} --upgrade, or launch with --no-drafter",
        )
