"""Getting a model into Ollama's library: the bare target, the drafter, and what is derived from both.

Whatever exists already is looked at and used where it is the same; nothing that is somebody else's is changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from advisor.errors import NoBackend, RuntimeFailed
from advisor.machine import Record
from backends.base import LaunchPlan, Progress
from backends.ollama import derived, digests, ledger
from backends.ollama.api import Api, Entry, full
from backends.ollama.derived import Recipe
from backends.ollama.ledger import Made
from backends.ollama.models import Shown
from backends.ollama.versions import DRAFTER, UPDATE, floor_of, reaches, words

MOST_NAMES = 20


class Ready(Record, frozen=True, kw_only=True):
    """A model that can be loaded. `new`: it was made just now; `target`: digest of its weights."""

    name: str
    digest: str
    target: str
    drafter: bool
    new: bool


def make(api: Api, plan: LaunchPlan, version: str, progress: Progress) -> Ready:
    """Have the model in the library; what is there already is used.

    Raises:
        NoBackend: this Ollama is too old for it.
        DownloadFailed: the target could not be pulled or sent.
        RuntimeFailed: a file is wrong, or the server failed. Nothing half-made is left.
    """
    model, made = plan.model, derived.recipe(plan.model, plan.options)
    floor = floor_of(model.name, drafter=made.drafter is not None)
    if not reaches(version, floor):
        what = "with its drafter " if made.drafter else ""
        raise NoBackend(
            f"Ollama {version} cannot run {model.name} {what}; {words(floor)} or newer can".replace(" ;", ";"),
            hint=UPDATE + (", or launch with --no-drafter" if floor == DRAFTER else ""),
        )
    if not made.files:
        _pull(api, made.base, progress)
    with ledger.locked():
        if made.files:
            _base_of_files(api, made, progress)
        return _derive(api, made, progress)


def _pull(api: Api, tag: str, progress: Progress) -> None:
    """Pull the tag, unless it is there: what the user has is not changed behind their back."""
    if api.entry(tag) is not None:
        return
    for layer in api.pull(tag):
        progress(f"{tag}, layer {layer.digest.removeprefix('sha256:')[:12]}", layer.done, layer.size)


# ---- The bare target, from files


def _base_of_files(api: Api, made: Recipe, progress: Progress) -> None:
    sent = {path: digests.of(path, progress) for path in made.files}
    sources = tuple(sent.values())
    known, there = ledger.made(api.url).get(made.base), api.entry(made.base)
    if there and known and there.digest == known.digest and known.sources == sources:
        return
    if there and (known is None or there.digest != known.digest):
        raise RuntimeFailed(
            f"Ollama has a model {made.base!r} already, which advisor did not make",
            hint="rename it with `ollama cp`, or take it away",
            command=f"ollama rm {made.base}",
        )
    for path, digest in sent.items():
        api.send_blob(path, digest, lambda done, size, name=path.name: progress(f"sending {name}", done, size))  # type: ignore[misc]
    progress(f"making {made.base}", 0, None)
    api.create({"model": made.base, "files": {path.name: digest for path, digest in sent.items()}})
    _noted(api, made.base, sources=sources)


# ---- What is derived


def _derive(api: Api, made: Recipe, progress: Progress) -> Ready:
    entries = {each.name: each for each in api.entries()}
    base, drafter = api.show(made.base), None
    base_digest = entries[full(made.base)].digest if full(made.base) in entries else ""
    # A tag that brings its own drafter keeps it: a second one would be stacked on it.
    if made.drafter is not None and not base.drafters:
        base.check_drafter(made.drafter, made.base)
        drafter = digests.of(made.drafter, progress)
    book = ledger.made(api.url)
    for name in _names(made.name):
        there, ours = entries.get(full(name)), book.get(name)
        if there is None or ours is None or ours.digest != there.digest:
            ours = None
        moved = ours is not None and ours.base_digest != base_digest
        if there and not moved and derived.same(api.show(name), base, made, drafter):
            return _ready(name, there, base, drafter, new=False)
        if there is None or ours:
            named = msgspec.structs.replace(made, name=name)
            _create(api, named, base, drafter, progress)
            there = _noted(api, name, base=made.base, base_digest=base_digest)
            return _ready(name, there, base, drafter, new=True)
    raise RuntimeFailed(f"Ollama has {MOST_NAMES} models named like {made.name!r} already", command="ollama list")


def _names(name: str) -> Iterator[str]:
    """The name, and what to call it where others have taken it."""
    yield name
    yield from (f"{name}-{count}" for count in range(2, MOST_NAMES + 1))


def _is_ours(api: Api, name: str, there: Entry) -> bool:
    known = ledger.made(api.url).get(name)
    return known is not None and known.digest == there.digest


def _create(api: Api, made: Recipe, base: Shown, drafter: str | None, progress: Progress) -> None:
    """Make it, and look what was made."""
    if drafter and made.drafter:
        label = f"sending {made.drafter.name}"
        api.send_blob(made.drafter, drafter, lambda done, size: progress(label, done, size))
    progress(f"making {made.name}", 0, None)
    api.create(derived.body_of(made, base, drafter))
    found = api.show(made.name)
    if drafter and found.drafter != drafter:
        api.delete(made.name)
        raise NoBackend(
            "this Ollama took no notice of the drafter: it is too old for drafters in GGUF",
            hint=f"{UPDATE} ({words(DRAFTER)} or newer), or launch with --no-drafter",
        )
    if not derived.same(found, base, made, drafter):
        api.delete(made.name)
        raise RuntimeFailed(
            f"Ollama made {made.name} otherwise than it was told to", hint="if another program changed it, try again"
        )


def _noted(api: Api, name: str, *, sources: tuple[str, ...] = (), base: str = "", base_digest: str = "") -> Entry:
    """Remember what was made just now."""
    there = api.entry(name)
    if there is None:
        raise RuntimeFailed(f"Ollama made {name}, and no longer has it", hint="another program may have removed it")
    ledger.note(api.url, name, Made(digest=there.digest, sources=sources, base=base, base_digest=base_digest))
    return there


def _ready(name: str, there: Entry, base: Shown, drafter: str | None, *, new: bool) -> Ready:
    return Ready(name=name, digest=there.digest, target=base.target, drafter=bool(drafter or base.drafters), new=new)


def found(api: Api, name: str) -> Ready | None:
    """A model that was made before; None where it is no longer there."""
    there = api.entry(name)
    if there is None:
        return None
    shown = api.show(name)
    return _ready(name, there, shown, shown.drafter, new=False)


# ---- Taking away


def unmake(api: Api, name: str) -> tuple[str, ...]:
    """Take away a model that was made here, and the bare target that was made for it where nothing else made here needs
    it. What was pulled, or changed since, stays."""
    removed = []
    with ledger.locked():
        book = ledger.made(api.url)
        base = book[name].base if name in book else ""
        removed += _removed(api, name)
        others = [other for other in ledger.made(api.url).values() if other.base == base]
        if base and not others:
            removed += _removed(api, base)
    return tuple(removed)


def _removed(api: Api, name: str) -> list[str]:
    there = api.entry(name)
    if there is None:
        ledger.forget(api.url, name)
        return []
    if not _is_ours(api, name, there):
        return []
    api.delete(name)
    ledger.forget(api.url, name)
    return [name]
