"""What `advisor doctor` tries out: each runtime by a real small answer in a process of its own, folders, disk, memory.

A build for another processor loads well and dies at its first matrix product (SIGILL); only decoding finds it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from advisor import demo, paths, sessions, shelves, store
from advisor.client import running
from advisor.errors import AdvisorError
from advisor.machine import Availability, Machine, Record
from advisor.units import format_bytes, format_file_size
from backends.base import Backend, Options, load

Status = Literal["pass", "warn", "fail"]

DECODED = ("llama.cpp", "native")
"""Backends that start a server of their own on any pair of files."""
TOKENS = 16
RIGHT = 0.5
"""Least share of the embedded pair's drafts that are right where the runtime computes well; there nearly all are."""
RACES = "set GGML_CUDA_PDL=0 (on NVIDIA's Hopper and newer kernels may overlap that must not); else update the runtime"
LITTLE_DISK = 20 * 10**9
"""Bytes; less holds no 4-bit file of the larger sizes."""
LEAST_PYTHON = (3, 11)


class Check(Record, frozen=True, kw_only=True):
    """One thing that was tried. `mend`: what to do or to type, where it is not well."""

    name: str
    status: Status
    message: str
    mend: str = ""


def everything(machine: Machine) -> Iterator[Check]:
    """All checks, one by one: decoding takes a second or two for each runtime."""
    yield _python()
    for backend in machine.backends:
        yield _backend(backend)
        if backend.available and backend.name in DECODED:
            yield decode(load(backend.name))
    yield _folder("state", sessions.STATE, sessions.folder)
    yield _folder("cache", "XDG_CACHE_HOME", paths.cache_folder)
    yield _folder("models", "HF_HOME", shelves.hub_cache)
    yield _disk()
    yield _memory(machine)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        return Check(name="python", status="fail", message=version, mend="install Python 3.11 or newer")
    return Check(name="python", status="pass", message=version)


def _backend(found: Availability) -> Check:
    version = found.version or "version unknown"
    if not found.available:
        return Check(name=found.name, status="warn", message=found.why_not or "not available", mend=found.hint or "")
    if not found.drafter:
        message = f"{version}, without Gemma's drafters: {found.why_not or 'too old'}"
        return Check(name=found.name, status="warn", message=message, mend=found.hint or "")
    return Check(name=found.name, status="pass", message=f"{version}, with Gemma's drafters")


def decode(backend: Backend) -> Check:
    """A short answer of the embedded pair, in a process of its own: an illegal instruction ends that one only."""
    name = f"{backend.name} decodes"
    try:
        plan = backend.plan(demo.pair(), Options(port=sessions.free_port()))
        with running(backend, plan) as client:
            question = [{"role": "user", "content": demo.QUESTION}]
            timings = demo.collect(client.chat(question, temperature=0, max_tokens=TOKENS)).timings
    except AdvisorError as error:
        mend = "; ".join(part for part in (error.hint, error.command) if part)
        return Check(name=name, status="fail", message=private(error.message), mend=private(mend))
    if not timings.draft_n:
        return Check(name=name, status="warn", message=f"{timings.predicted_n} tokens, but nothing was drafted")
    accepted = f"{timings.predicted_n} tokens, {timings.draft_n_accepted} of {timings.draft_n} drafts accepted"
    if (timings.draft_n_accepted or 0) < RIGHT * timings.draft_n:
        message = f"{accepted}, where nearly all are right: this runtime computes wrongly on this machine"
        return Check(name=name, status="fail", message=message, mend=RACES)
    return Check(name=name, status="pass", message=accepted)


def _folder(name: str, variable: str, where: Callable[[], Path]) -> Check:
    """Whether the folder, or the nearest one above that exists, can be written."""
    try:
        folder = wanted = where()
    except AdvisorError as error:
        return Check(name=f"{name} folder", status="fail", message=private(error.message), mend=error.hint)
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        message = f"{private(str(wanted))} cannot be written"
        return Check(name=f"{name} folder", status="fail", message=message, mend=f"set {variable} to one that can")
    return Check(name=f"{name} folder", status="pass", message=private(str(wanted)))


def _disk() -> Check:
    free = store.free_disk()
    message = f"{format_file_size(free)} free for models"
    if free < LITTLE_DISK:
        return Check(name="disk", status="warn", message=message, mend="set HF_HOME to a folder on a larger disk")
    return Check(name="disk", status="pass", message=message)


def _memory(machine: Machine) -> Check:
    memory = machine.memory
    if memory.limit_bytes is not None and memory.limit_bytes < memory.total_bytes:
        limit, total = format_bytes(memory.limit_bytes), format_bytes(memory.total_bytes)
        message = f"{limit} of {total} may be used ({memory.limit_source or 'a limit'})"
        return Check(name="memory", status="warn", message=message, mend="raise the limit, if it is yours to raise")
    return Check(name="memory", status="pass", message=f"{format_bytes(memory.available_bytes)} available, no limit")


def private(text: str) -> str:
    """The text without the user's home folder in it."""
    return text.replace(str(Path.home()), "~")
