"""The world in which the wizard is tested: a machine with backends, files and sessions that never change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from advisor.files.store import File, Wanted
from advisor.hardware.simulate import parse
from advisor.knowledge.catalog import load
from advisor.machine import Availability, Gpu, Machine
from advisor.running.sessions import Session
from advisor.tui.app import Wizard
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from advisor.tui.state import Choice
from tests.tui import scripted

MACHINES = {
    "no-gpu": "cpu, 16GB",
    "rtx-4060": "RTX 4060 8GB, 32GB",
    "rtx-4090": "RTX 4090, 64GB",
    "m3-max": "M3 Max 64GB",
    "h100x8": "8x H100 SXM, 1024GB",
    "pi": "Raspberry Pi 5 8GB",
}
SIZES = {"80x24": (80, 24), "120x36": (120, 36), "160x45": (160, 45)}

LLAMA_CPP = Availability(
    name="llama.cpp", available=True, version="b10605", drafter=True, path="/usr/local/bin/llama-server", build="CUDA"
)
NATIVE = Availability(name="native", available=True, version="0.3.36", drafter=True, build="CPU")
OLLAMA = Availability(
    name="ollama", available=False, why_not="no server answers at 127.0.0.1:11434", hint="start it: ollama serve"
)

VLLM = Availability(
    name="vllm", available=True, version="0.32.0", drafter=True, path="/opt/vllm/bin/vllm", reads="checkpoint"
)

HELD = 0.08
"""Of each memory, what others hold on a machine that somebody works on."""


def machine(spec: str, *backends: Availability) -> Machine:
    """The machine of these words as detection would report it: not simulated, with backends, partly in use."""
    found = parse(spec, load())
    memory = found.memory
    available = int(memory.total_bytes * (1 - HELD))
    return msgspec.structs.replace(
        found,
        simulated=False,
        os_version="6.8",
        cpu=msgspec.structs.replace(found.cpu, name=found.cpu.name.replace(" (assumed)", "")),
        memory=msgspec.structs.replace(memory, available_bytes=available),
        gpus=tuple(in_use(gpu, available, shared=memory.unified) for gpu in found.gpus),
        backends=backends or (LLAMA_CPP, NATIVE, OLLAMA),
        basis={},
    )


def in_use(gpu: Gpu, available: int, *, shared: bool) -> Gpu:
    free = available if shared else int(gpu.memory_total_bytes * (1 - HELD))
    return msgspec.structs.replace(gpu, memory_free_bytes=free)


SESSION = Session(
    name="demo", status="running", backend="native", model="demo", pid=1, birth="", port=8080, since="2026-01-01",
    base_url="http://127.0.0.1:8080/v1", drafter=True, context_tokens=4096,
)  # fmt: skip


def files(wanted: Sequence[Wanted]) -> Sequence[File]:
    """The drafter is here, the rest is to be fetched."""
    return tuple(
        File(
            role=one.role,
            repo=one.repo,
            file=one.file,
            size=one.size,
            path=Path("/models") / one.file,
            source="Hugging Face cache" if one.role == "drafter" else "download",
            sha256="0" * 64,
        )
        for one in wanted
    )


def services(spec: str, sessions: Sequence[Session] = (), backends: Sequence[Availability] = ()) -> Services:
    return Services(
        detect=lambda: machine(MACHINES.get(spec, spec), *backends),
        sessions=lambda: sessions,
        files_here=files,
        files_there=files,
        free_disk=lambda: 180 * 10**9,
        cache=lambda: Path("/models/hub"),
        configure=scripted.configure,
        outline=scripted.outline,
        fetch=scripted.fetch,
        backend=lambda _: scripted.Scripted(),
        uncalibrated=lambda _: False,
        each_s=0.1,
    )


def wizard(
    spec: str, *, theme: str = "advisor-dark", choice: Choice | None = None, sessions: Sequence[Session] = ()
) -> Wizard:
    """The wizard on that machine; it remembers nothing."""
    return Wizard(services=services(spec, sessions), options=Settings(theme=theme), remember=False, choice=choice)
