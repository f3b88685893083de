"""The repositories of checkpoints: which of their files are fetched, and whether all of them are here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import DownloadFailed
from advisor.knowledge.profile import Checkpoint
from advisor.running.order import Repository, Setup

if TYPE_CHECKING:
    from advisor.files.store import File


def wanted(found: Checkpoint, draft: Path | None) -> tuple[Repository, ...]:
    """What a checkpoint is fetched from. `draft`: the assistant that comes with it, None where that is not wanted."""
    target = Repository(role="target", repo=found.repo, file=found.file, size=int(found.bytes), source=found.source)
    if draft is None:
        return (target,)
    size = int(found.drafter_bytes or 0)
    return target, Repository(role="drafter", repo=found.drafter, file="", size=size, source=found.source)


def files(one: Repository) -> tuple[File, ...]:
    """The files of a repository, each where it is or will be; those that are here need no network.

    Raises:
        DownloadFailed: it is not here, and cannot be listed.
    """
    from advisor.files import hub, shelves, store  # noqa: PLC0415
    from backends import checkpoint  # noqa: PLC0415

    if not one.file and checkpoint.local(Path(one.repo)) and _complete(one.repo):
        return ()
    there = hub.listing(one.repo)
    snapshot = shelves.repo_folder(one.repo) / "snapshots" / there.commit
    chosen = [each for each in there.uploads if (each.name == one.file if one.file else _useful(each.name))]
    if not chosen:
        raise DownloadFailed(f"{one.repo} has no {one.file or 'checkpoint'}", hint="choose another --quant")
    role: store.Role = "drafter" if one.role == "drafter" else "target"
    return tuple(
        store.File(
            role=role,
            repo=one.repo,
            file=each.name,
            size=each.size,
            path=snapshot / each.name,
            source="Hugging Face cache" if (snapshot / each.name).is_file() else "download",
            sha256=each.sha256,
        )
        for each in chosen
    )


def unread(one: Repository) -> tuple[File, ...]:
    """A single file as the catalogue knows it; what a repository holds is not asked."""
    from advisor.files import store  # noqa: PLC0415

    if not one.file:
        return ()
    place = Path(f"hf:{one.repo}/{one.file}")
    return (store.File(role="target", repo=one.repo, file=one.file, size=one.size, path=place, source="download"),)


def entries(setup: Setup) -> tuple[File, ...]:
    """The files of a setup that was made without asking anybody. A repository is one of them, as large as the catalogue
    has it; its path says whether it is here."""
    from advisor.files import shelves, store  # noqa: PLC0415

    def whole(one: Repository) -> File:
        here = _complete(one.repo)
        return store.File(
            role="drafter" if one.role == "drafter" else "target",
            repo=one.repo,
            file=one.repo,
            size=one.size,
            path=shelves.repo_folder(one.repo),
            source="Hugging Face cache" if here else "download",
        )

    return setup.files or tuple(map(whole, setup.repositories))


def _useful(name: str) -> bool:
    return name.endswith((".json", ".safetensors", ".model", ".jinja", ".txt"))


def _complete(repo: str) -> bool:
    """Whether a snapshot has all the weights that its index names."""
    from backends import checkpoint  # noqa: PLC0415

    folder = checkpoint.local(Path(repo))
    if folder is None:
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        named = set(msgspec.json.decode(index.read_bytes())["weight_map"].values())
    except (msgspec.DecodeError, KeyError, AttributeError, OSError):
        return False
    return all((folder / name).is_file() for name in named)
