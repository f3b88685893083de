"""Backends whose server has a life of its own: starting it where it does not run, and the hardware of the machine that
it runs on, where that is another one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import msgspec

from advisor.errors import UsageError
from advisor.knowledge import catalog
from advisor.machine import Machine
from backends.base import load

OLLAMA, ADDRESS = "ollama", "OLLAMA_HOST"


def backend_at(backend: str | None, ollama_host: str | None) -> str | None:
    """The backend that is asked for, with its address where everybody looks for it.

    Raises:
        UsageError: another backend has no such address.
    """
    if ollama_host is None:
        return backend
    if backend not in (None, OLLAMA):
        raise UsageError(f"--ollama-host does not go with --backend {backend}", hint="leave one of them out")
    os.environ[ADDRESS] = ollama_host
    return OLLAMA


def server_at(backend: str | None, server: str | None) -> None:
    """Put the address of a server that runs already where everybody looks for it.

    Raises:
        UsageError: the backend takes none.
    """
    if server is None:
        return
    runtimes = catalog.load().runtimes
    names = [each.id for each in runtimes.values() if each.address]
    if backend not in names:
        raise UsageError(
            f"--server does not go with --backend {backend}" if backend else "--server needs to know what serves there",
            hint=f"add --backend {' or '.join(names)}" if not backend else f"only with {' or '.join(names)}",
        )
    os.environ[runtimes[backend or ""].address] = server


def check_container(backend: str | None, server: str | None, *, asked: bool) -> None:
    """Only some have images, and a server that runs already needs none.

    Raises:
        UsageError: neither goes with a container.
    """
    if not asked:
        return
    names = [each.id for each in catalog.load().runtimes.values() if each.image]
    if backend not in names:
        raise UsageError("--container is for servers that have images", hint=f"add --backend {' or '.join(names)}")
    if server is not None:
        raise UsageError("--container and --server exclude each other", command="advisor launch --help")


def check_port(backend: str | None, port: int | None) -> None:
    """A server that serves others too has its port already.

    Raises:
        UsageError: another one was asked for.
    """
    if backend is not None and port is not None and load(backend).shared:
        raise UsageError(f"{backend}'s server has a port of its own", hint="leave out --port")


def machine_of(backend: str | None, file: Path | None) -> Machine | None:
    """The machine that the backend runs on; None where it is this one. Whoever sits at a terminal is asked what it has.

    Args:
        file: what `detect --json` wrote there.

    Raises:
        UsageError: its hardware is not known, and there is nobody to ask.
    """
    from advisor.commands.recommend import the_machine  # noqa: PLC0415

    known = catalog.load()
    if backend is None:
        return the_machine(None, file, known) if file else None
    found = load(backend).detect()
    if file is not None:
        machine = the_machine(None, file, known)
    elif found.host is None or not found.available:
        return None
    elif not sys.stdin.isatty():
        raise UsageError(
            f"{backend} runs on {found.host}, whose hardware is not known here",
            hint="write it there with `advisor detect --json > machine.json`, and give it with --machine",
        )
    else:
        question = f"What does {found.host} have (like 'RTX 4090, 64GB')"
        machine = the_machine(click.prompt(question, err=True), None, known)
    # What it can run is asked of it; its hardware was told.
    there = msgspec.structs.replace(found, host=None)
    return msgspec.structs.replace(machine, simulated=False, backends=(there,))


def offer_to_serve(backend: str | None) -> None:
    """Where the backend is installed and its server does not run: offer to start it."""
    if backend is None:
        return
    runner = load(backend)
    if not runner.shared or not sys.stdin.isatty():
        return
    found = runner.detect()
    if not found.available and found.path and click.confirm(f"{backend}: {found.why_not}. Start it?", err=True):
        runner.serve()
