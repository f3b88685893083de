"""What was asked for, and what will be started for it: the two ends of deciding."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import UsageError
from advisor.machine import Machine, Record
from advisor.memory.footprint import KvType
from backends.base import Model, Options

if TYPE_CHECKING:
    from advisor.choice.estimate import Estimate
    from advisor.files.store import File

DEMO = "demo"
NATIVE = "native"
DRAFT_TOKENS = 3
"""Drafted a round where nobody says otherwise and nothing is known."""
AUTO = "auto"
ADAPTS = -1
"""The native engine's own choice: as many as pay."""
MOST_DRAFTS = 15
SWITCHED_OFF = "it was switched off"


class Order(Record, frozen=True, kw_only=True):
    """What was asked for. None: the best choice. `draft_tokens` 0: plain decoding; `parallel`: conversations at once,
    each with the whole context; `api_key`: asked of all who come; `force`: even what does not fit. `machine`: the one
    that it will run on, where that is not this one; `gpu` and `memory`: what is corrected of it, as
    `correction.corrected` reads it. `hosts`: those that serve it together, this one first. `container`: as an image."""

    model: str | None = None
    backend: str | None = None
    quant: str | None = None
    context: int | None = None
    drafter: Path | None = None
    use_drafter: bool = True
    draft_tokens: int | None = None
    port: int = 0
    detached: bool = False
    projector: bool = False
    force: bool = False
    kv_type: KvType = "f16"
    parallel: int = 1
    threads: int | None = None
    gpu_layers: int | None = None
    api_key: str | None = None
    extra: tuple[str, ...] = ()
    machine: Machine | None = None
    gpu: str | None = None
    memory: str | None = None
    hosts: tuple[str, ...] = ()
    container: bool = False

    @property
    def drafts(self) -> bool:
        """Whether a drafter is wanted."""
        return self.use_drafter and self.draft_tokens != 0

    def place(self) -> Machine:
        """The machine that it will run on, with what is corrected of it.

        Raises:
            UsageError: an unknown device, or a size that cannot be.
        """
        from advisor.hardware.correction import corrected  # noqa: PLC0415
        from advisor.hardware.detection import detect  # noqa: PLC0415
        from advisor.knowledge import catalog  # noqa: PLC0415 - where something is decided, not where it is only written down

        known = catalog.load()
        return corrected(self.machine or detect(known.devices.values()), known, gpu=self.gpu, memory=self.memory)

    def plain(self) -> Order:
        """The same, without a drafter."""
        return msgspec.structs.replace(self, use_drafter=False, drafter=None, draft_tokens=None)

    def typed(self) -> str:
        """As it is typed. A key stays in the environment."""
        words = ["advisor", "launch", *([self.model] if self.model else [])]
        values = {
            "--backend": self.backend,
            "--quant": self.quant,
            "--context": self.context,
            "--kv-type": self.kv_type if self.kv_type != "f16" else None,
            "--parallel": self.parallel if self.parallel > 1 else None,
            "--drafter": self.drafter,
            "--draft-tokens": self.draft_tokens,
            "--gpu-layers": self.gpu_layers,
            "--threads": self.threads,
            "--port": self.port or None,
            "--gpu": self.gpu,
            "--memory": self.memory,
            "--hosts": ",".join(self.hosts) or None,
        }
        for name, value in values.items():
            words += [name, str(value)] if value is not None else []
        switches = {
            "--no-drafter": not self.use_drafter,
            "--projector": self.projector,
            "--force": self.force,
            "--detach": self.detached,
        }
        words += [name for name, on in switches.items() if on]
        return shlex.join([*words, *(["--", *self.extra] if self.extra else [])])


class Repository(Record, frozen=True, kw_only=True):
    """What is to be fetched whole; `file`: this one of it only. `size`: bytes, as the catalogue knows it."""

    role: str
    repo: str
    file: str
    size: int
    source: str


class Setup(Record, frozen=True, kw_only=True):
    """What will be started. `drafter_reason`: why there is a drafter, or none. `files`: of the catalogue, some of them
    still to be fetched. `expected_*`: of the estimate, where there is one; tokens per second and bytes. `repositories`:
    of checkpoints, in place of files where nothing is fetched; `notes`: what a reader of the plan should know."""

    backend: str
    model: Model
    options: Options
    drafter_reason: str
    files: tuple[File, ...] = ()
    licence: str = ""
    expected_tokens_per_s: float | None = None
    expected_bytes: int | None = None
    order: Order | None = None
    estimate: Estimate | None = None
    repositories: tuple[Repository, ...] = ()
    notes: tuple[str, ...] = ()


def is_file(model: str) -> bool:
    """Whether MODEL means a local file and not a size of the catalogue, which may be named by its repository too."""
    path = model.lower().endswith(".gguf") or model.startswith((".", "/", "~"))
    return path or Path(model).is_file()


def is_place(model: str) -> bool:
    """The same for runtimes whose models are folders; one that is called like a size of the catalogue needs `./`."""
    from advisor.knowledge import catalog  # noqa: PLC0415

    return is_file(model) or (Path(model).is_dir() and model.lower() not in catalog.load().models)


def drafts_in(text: str) -> int | None:
    """The number of drafts, None for `auto`.

    Raises:
        UsageError: neither a number from 0 to `MOST_DRAFTS` nor `auto`.
    """
    if text == AUTO:
        return None
    if not text.isdecimal() or int(text) > MOST_DRAFTS:
        raise UsageError(f"--draft-tokens is {text!r}: a number from 0 to {MOST_DRAFTS}, or {AUTO}")
    return int(text)
