"""What `advisor doctor` tries out: each runtime by a real small answer in a process of its own, folders, disk, memory.

A build for another processor loads well and dies at its first matrix product (SIGILL); only decoding finds it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from advisor import paths
from advisor.doctor import builds
from advisor.doctor.check import Check, Status
from advisor.errors import AdvisorError
from advisor.files import remote, shelves, store
from advisor.hardware.detection import GPU_PROBES
from advisor.machine import Availability, Machine, Problem
from advisor.running import demo, sessions
from advisor.running.client import running
from advisor.units import format_bytes, format_file_size
from backends.base import Backend, Options, load

DECODED = ("llama.cpp", "native")
"""Backends that start a server of their own on any pair of files."""
TOKENS = 16
RIGHT = 0.5
"""Least share of the embedded pair's drafts that are right where the runtime computes well; there nearly all are."""
RACES = "set GGML_CUDA_PDL=0 (on NVIDIA's Hopper and newer kernels may overlap that must not); else update the runtime"
LITTLE_DISK = 20 * 10**9
"""Bytes; less holds no 4-bit file of the larger sizes."""
NO_DISK = 3 * 10**9
"""Bytes; less holds not even the smallest."""
LEAST_PYTHON = (3, 11)


def everything(machine: Machine, problems: Iterable[Problem]) -> Iterator[Check]:
    """All checks, one by one: decoding takes a second or two for each runtime.

    Args:
        problems: what the probes and their diagnosis found.
    """
    yield _python()
    yield from probes(machine, tuple(problems))
    for found in machine.backends:
        if found.reads == "checkpoint" and not found.available and found.path is None:
            continue  # one of several that nobody has to have
        yield _backend(found)
        if found.available:
            backend = load(found.name)
            yield from builds.checks(backend, found, machine)
            if found.name in DECODED:
                yield decode(backend)
    yield _folder("state", paths.STATE, sessions.folder)
    yield from _open_to_others()
    yield _folder("cache", "XDG_CACHE_HOME", paths.cache_folder)
    yield _folder("models", "HF_HOME", shelves.hub_cache)
    yield _disk()
    yield _memory(machine)
    yield from _address_space()
    yield _hub()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        return Check(name="python", status="fail", message=version, mend="install Python 3.11 or newer")
    return Check(name="python", status="pass", message=version)


# ---- The machine


def probes(machine: Machine, problems: tuple[Problem, ...]) -> Iterator[Check]:
    """What each probe found, and what it could not."""
    cpu, memory = machine.cpu, machine.memory
    found = {"cpu": f"{cpu.name}, {cpu.cores} cores", "memory": f"{format_bytes(memory.total_bytes)}"}
    for gpu in machine.gpus:
        words = f"{gpu.name}, {format_bytes(gpu.memory_total_bytes)}"
        found[gpu.vendor] = "; ".join(filter(None, (found.get(gpu.vendor), words)))
    for name, words in found.items():
        yield Check(name=f"{name} probe", status="pass", message=words)
    if not machine.gpus:
        asked = ", ".join(GPU_PROBES)
        yield Check(name="gpu probes", status="pass", message=f"no GPU: models run on the processor (asked: {asked})")
    for problem in problems:
        # What backends lack is told with them; having no GPU is no fault.
        if problem.probe in ("backends", "runtimes") or (problem.probe == "gpu" and not machine.gpus):
            continue
        status: Status = "fail" if problem.probe == "catalogue" or "probe failed" in problem.message else "warn"
        yield Check(name=f"{problem.probe} probe", status=status, message=problem.message, mend=problem.hint or "")


# ---- Runtimes


def _backend(found: Availability) -> Check:
    version = found.version or "version unknown"
    if not found.available:
        return Check(name=found.name, status="warn", message=found.why_not or "not available", mend=found.hint or "")
    where = f"{version}, {found.path}" if found.path else version
    if not found.drafter:
        message = f"{where}, without Gemma's drafters: {found.why_not or 'too old'}"
        return Check(name=found.name, status="warn", message=message, mend=found.hint or "")
    message = f"{where}, with Gemma's drafters"
    if found.why_not:
        return Check(name=found.name, status="warn", message=f"{message}: {found.why_not}", mend=found.hint or "")
    return Check(name=found.name, status="pass", message=message)


def decode(backend: Backend) -> Check:
    """A short answer of the embedded pair, in a process of its own: an illegal instruction ends that one only."""
    name = f"{backend.name} decodes"
    try:
        plan = backend.plan(demo.pair(), Options(port=sessions.any_port()))
        with running(backend, plan) as client:
            question = [{"role": "user", "content": demo.QUESTION}]
            timings = demo.collect(client.chat(question, temperature=0, max_tokens=TOKENS)).timings
    except AdvisorError as error:
        return Check(name=name, status="fail", message=error.message, mend=error.hint, command=error.command)
    if not timings.draft_n:
        return Check(name=name, status="warn", message=f"{timings.predicted_n} tokens, but nothing was drafted")
    accepted = f"{timings.predicted_n} tokens, {timings.draft_n_accepted} of {timings.draft_n} drafts accepted"
    if (timings.draft_n_accepted or 0) < RIGHT * timings.draft_n:
        message = f"{accepted}, where nearly all are right: this runtime computes wrongly on this machine"
        return Check(name=name, status="fail", message=message, mend=RACES)
    return Check(name=name, status="pass", message=accepted)


# ---- Folders, disk, memory


def _folder(name: str, variable: str, where: Callable[[], Path]) -> Check:
    """Whether the folder, or the nearest one above that exists, can be written."""
    name = f"{name} folder"
    try:
        folder = wanted = where()
    except AdvisorError as error:
        return Check(name=name, status="fail", message=error.message, mend=error.hint)
    while not folder.exists():
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Check(name=name, status="pass", message=str(wanted))
    mend = f"make it writable, or set {variable} to a folder that is"
    message = f"{wanted} cannot be written" + ("" if folder.is_dir() else f": {folder} is no folder")
    # On a disk that cannot be written, no owner can.
    another = os.name == "posix" and folder.is_dir() and not os.statvfs(folder).f_flag & os.ST_RDONLY
    command = f'sudo chown -R "$USER" {shlex.quote(str(folder))}' if another else ""
    return Check(name=name, status="fail", message=message, mend=mend, command=command)


def _open_to_others() -> Iterator[Check]:
    """The records of sessions hold API keys."""
    with contextlib.suppress(AdvisorError, OSError):
        folder = sessions.folder()
        if os.name == "posix" and folder.stat().st_mode & 0o077:
            message = f"others on this machine may look into {folder}, where sessions and their keys are"
            command = f"chmod 700 {shlex.quote(str(folder))}"
            yield Check(name="state folder", status="warn", message=message, command=command)


def _disk() -> Check:
    free = store.free_disk()
    message = f"{format_file_size(free)} free for models in {shelves.hub_cache()}"
    if free < LITTLE_DISK:
        status: Status = "fail" if free < NO_DISK else "warn"
        return Check(name="disk", status=status, message=message, mend="set HF_HOME to a folder on a larger disk")
    return Check(name="disk", status="pass", message=message)


def _memory(machine: Machine) -> Check:
    memory = machine.memory
    if memory.limit_bytes is not None and memory.limit_bytes < memory.total_bytes:
        limit, total = format_bytes(memory.limit_bytes), format_bytes(memory.total_bytes)
        message = f"{limit} of {total} may be used ({memory.limit_source or 'a limit'})"
        return Check(name="memory", status="warn", message=message, mend="raise the limit, if it is yours to raise")
    return Check(name="memory", status="pass", message=f"{format_bytes(memory.available_bytes)} available, no limit")


def _address_space() -> Iterator[Check]:
    """Model files are mapped: a limit on addresses stops them, however much memory is free."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        message = f"processes may use {format_bytes(limit)} of addresses, mapped files included"
        yield Check(name="memory", status="warn", message=message, command="ulimit -v unlimited")


def _hub() -> Check:
    """Where files would come from; it is not asked."""
    if remote.offline():
        message = "HF_HUB_OFFLINE is set: only files that are here are used"
        return Check(name="hub", status="warn", message=message, command="unset HF_HUB_OFFLINE")
    return Check(name="hub", status="pass", message=remote.shown(remote.hub()))
