"""Checkpoints in Hugging Face's format: where a repository is on this machine, and whether two belong together.

No runtime reports a drafter with another vocabulary, and some die of another width at their first request; so the two
`config.json` files are compared before anything is started.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from advisor.errors import RuntimeFailed
from advisor.machine import Record
from backends.base import Model

CONFIG = "config.json"
TARGETS = {"gemma4": True, "gemma4_text": False, "gemma4_unified": True}
"""Model types of targets, and whether they are of the published, multimodal shape."""
DRAFTERS = frozenset({"gemma4_assistant", "gemma4_unified_assistant"})
FETCH = "fetch it anew: `hf download REPOSITORY`"


class Config(Record, frozen=True, kw_only=True):
    """What a `config.json` says. `hidden`: the width of the target, or of the target that a drafter is for; `context`:
    tokens at most. 0 where it does not tell."""

    kind: str
    hidden: int
    vocab: int
    context: int


def local(place: Path) -> Path | None:
    """The folder of a checkpoint on this machine: the one named, or the newest snapshot of that repository in the Hub's
    cache; None where it is not here."""
    from advisor.files import shelves  # noqa: PLC0415

    if place.exists():
        return place
    name = place.as_posix()
    if place.is_absolute() or name.count("/") != 1:
        return None
    snapshots = shelves.repo_folder(name).glob(f"snapshots/*/{CONFIG}")
    newest = max(snapshots, key=lambda each: each.stat().st_mtime, default=None)
    return newest.parent if newest else None


def located(model: Model) -> Model:
    """The model with the folders that its repositories have here; as it is, where they are not."""
    return msgspec.structs.replace(
        model,
        target=local(model.target) or model.target,
        drafter=(local(model.drafter) or model.drafter) if model.drafter else None,
    )


def word(place: Path) -> str:
    """A checkpoint as a command line names it: a repository has slashes on every system."""
    return str(place) if place.is_absolute() else place.as_posix()


def read(folder: Path) -> Config:
    """The configuration of a checkpoint.

    Raises:
        RuntimeFailed: there is none, or it cannot be read.
    """
    if folder.is_file():
        raise RuntimeFailed(f"{folder} is a file, no folder with a Hugging Face checkpoint")
    try:
        told = json.loads((folder / CONFIG).read_bytes())
    except OSError:
        raise RuntimeFailed(f"{folder} has no {CONFIG}: it is no checkpoint", hint=FETCH) from None
    except ValueError:
        raise RuntimeFailed(f"{folder / CONFIG} is no JSON", hint=FETCH) from None
    if not isinstance(told, dict):
        raise RuntimeFailed(f"{folder / CONFIG} is no configuration", hint=FETCH)
    text = told.get("text_config")
    inner: dict[str, Any] = text if isinstance(text, dict) else {}
    kind = str(told.get("model_type", ""))
    hidden = told.get("backbone_hidden_size") if kind in DRAFTERS else inner.get("hidden_size", told.get("hidden_size"))
    vocab, context = (_count(inner.get(name, told.get(name))) for name in ("vocab_size", "max_position_embeddings"))
    return Config(kind=kind, hidden=_count(hidden), vocab=vocab, context=context)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def check(target: Path, drafter: Path | None = None, *, multimodal: bool = False) -> None:
    """Whether a target is Gemma 4 and a drafter is made for it.

    Args:
        multimodal: whether the runtime takes targets of the published shape only.

    Raises:
        RuntimeFailed: naming what does not fit.
    """
    main = read(target)
    if main.kind in DRAFTERS:
        raise RuntimeFailed(f"{target} is a drafter, no target", hint="name the target, and this one with --drafter")
    if main.kind not in TARGETS:
        raise RuntimeFailed(f"{target} is no Gemma 4 checkpoint: its model_type is {main.kind!r}")
    if multimodal and not TARGETS[main.kind]:
        raise RuntimeFailed(
            f"{target} is a text-only checkpoint ({main.kind}), with which this runtime answers no request",
            hint="use the checkpoint as published (model_type gemma4)",
        )
    if drafter is not None:
        _check_drafter(main, read(drafter), drafter)


def _check_drafter(main: Config, draft: Config, place: Path) -> None:
    hint = "use the assistant of the same size, or launch with --no-drafter"
    if draft.kind not in DRAFTERS:
        raise RuntimeFailed(f"{place} is no Gemma 4 assistant: its model_type is {draft.kind!r}", hint=hint)
    if main.hidden and draft.hidden and main.hidden != draft.hidden:
        raise RuntimeFailed(
            f"the drafter {place} is made for a width of {draft.hidden}, this target's is {main.hidden}", hint=hint
        )
    if main.vocab and draft.vocab and main.vocab != draft.vocab:
        raise RuntimeFailed(
            f"the drafter {place} has a vocabulary of {draft.vocab} tokens, this target's has {main.vocab}", hint=hint
        )
