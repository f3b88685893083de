"""`advisor launch`: from a name to an endpoint, with the proof that its drafter works."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import click
import msgspec

from advisor.commands import elsewhere
from advisor.commands.recommend import correcting
from advisor.console import interrupts, streams
from advisor.console.progress import Meter, busy
from advisor.errors import Interrupted, NoBackend, UsageError, unknown_name
from advisor.files import shelves, store
from advisor.files.store import File
from advisor.memory.footprint import KvType
from advisor.pages import launch_document
from advisor.running import checkpoints, launching, licences, sessions, shell, starting
from advisor.running.order import Order, Setup, drafts_in
from advisor.running.sessions import Session
from advisor.running.starting import Proof
from advisor.units import format_bytes, format_file_size
from backends.base import Backend, LaunchPlan, load, usable

KEY = "ADVISOR_API_KEY"
LOOKING = "looking at this machine and for the files"
"""What takes a while where headers come over a slow line."""
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
NARROW = 80
"""Columns that every terminal has."""

EPILOG = """\b
Examples:
  advisor launch
  advisor launch 12b --context 16384
  advisor launch model.gguf --drafter mtp.gguf
  advisor launch demo --backend llama.cpp --detach --json
  advisor launch demo --backend llama.cpp --dry-run
  advisor launch 12b --parallel 4 --kv-type q8_0 -- --no-repack

\b
Whatever comes after `--` is passed on to the runtime.
Exit codes: 0 done, 2 wrong usage, 3 it does not fit, 4 no backend,
5 a download failed, 6 the runtime failed, 130 interrupted.
"""


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.argument("extra", nargs=-1, type=click.UNPROCESSED, metavar="[-- EXTRA]...")
@click.option("--backend", metavar="B", help="llama.cpp, ollama, native or a plugin; by default the best one here.")
@click.option("--quant", metavar="Q", help="File of the catalogue, such as Q8_0.")
@click.option("--context", type=click.IntRange(min=1), metavar="N", help="Context length in tokens.")
@click.option("--drafter", type=click.Path(path_type=Path), help="GGUF file of the drafter.")
@click.option("--no-drafter", is_flag=True, help="Decode without a drafter.")
@click.option(
    "--useless-drafter",
    type=click.Choice(["ask", "keep", "drop"]),
    default="ask",
    show_default=True,
    help="What to do with a drafter that is never right or makes it slower: drop starts again without it.",
)
@click.option("--draft-tokens", default="auto", metavar="N|auto", help="Tokens to draft per round.")
@click.option(
    "--kv-type", default="f16", show_default=True, metavar="T", help="Type of the KV cache: f16, q8_0 or q4_0."
)
@click.option("--parallel", type=click.IntRange(1, 64), default=1, metavar="N", help="Conversations served at once.")
@click.option(
    "--gpu-layers", type=click.IntRange(min=0), metavar="N", help="Layers to put on the GPU; by default what fits."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), metavar="N", help="Processor threads; by default one per core."
)
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N", help="Port on 127.0.0.1; by default a free one from 8080 on."
)
@click.option("--api-key", envvar=KEY, metavar="KEY", help=f"Key that clients must send; safer in ${KEY}.")
@click.option("--ollama-host", metavar="HOST", help="Where Ollama runs; by default $OLLAMA_HOST or this machine.")
@click.option(
    "--machine",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="That host, as `detect --json` described it there.",
)
@correcting
@click.option("--server", metavar="URL", help="Use a server that runs already, and leave it running (vllm, sglang).")
@click.option("--container", is_flag=True, help="Print the command that starts it in a container (vllm, sglang).")
@click.option("--hosts", metavar="A,B", help="Machines that serve it together, this one first (vllm, sglang).")
@click.option("--detach", is_flag=True, help="Leave it running and return; `advisor stop` ends it.")
@click.option("--projector", is_flag=True, help="Fetch and load the projector for images and audio too.")
@click.option("--force", is_flag=True, help="Start it even if it should not fit.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, without downloading or starting anything.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.launch/1).")
def command(
    model: str | None,
    extra: tuple[str, ...],
    *,
    backend: str | None,
    quant: str | None,
    context: int | None,
    drafter: Path | None,
    no_drafter: bool,
    useless_drafter: str,
    draft_tokens: str,
    kv_type: str,
    parallel: int,
    gpu_layers: int | None,
    threads: int | None,
    port: int | None,
    api_key: str | None,
    ollama_host: str | None,
    server: str | None,
    container: bool,
    file: Path | None,
    gpu: str | None,
    memory: str | None,
    hosts: str | None,
    detach: bool,
    projector: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start MODEL and print its endpoint, which speaks the OpenAI API on this machine only.

    MODEL is e2b, e4b, 12b, 26b, 31b, `demo` or a GGUF file; by default it is the recommendation. Files that are missing
    are fetched. It runs until ctrl-c, or with --detach until `advisor stop`.
    """
    if drafter is not None and no_drafter:
        raise UsageError("--drafter and --no-drafter exclude each other", command="advisor launch --help")
    if kv_type not in get_args(KvType):
        raise unknown_name("value of --kv-type", kv_type, get_args(KvType), command="advisor launch --help")
    if model is not None and model.startswith("-"):
        # `advisor launch -- --threads 4`: the first word after `--` is no MODEL.
        extra, model = (model, *extra), None
    if extra and not extra[0].startswith("-"):
        raise UsageError(f"unexpected argument {extra[0]!r}", hint="flags for the runtime go after `--`")
    backend = elsewhere.backend_at(backend, ollama_host)
    elsewhere.server_at(backend, server)
    elsewhere.check_container(backend, server, asked=container)
    elsewhere.check_port(backend, port)
    elsewhere.offer_to_serve(backend)
    order = Order(
        machine=elsewhere.machine_of(backend, file),
        gpu=gpu,
        memory=memory,
        model=model,
        backend=backend,
        quant=quant,
        context=context,
        drafter=drafter,
        use_drafter=not no_drafter,
        draft_tokens=drafts_in(draft_tokens),
        port=port or 0,
        detached=detach,
        projector=projector,
        force=force,
        kv_type=cast(KvType, kv_type),
        parallel=parallel,
        gpu_layers=gpu_layers,
        threads=threads,
        api_key=api_key or None,
        extra=extra,
        hosts=parse_hosts(hosts),
        container=container,
    )
    with busy(LOOKING):
        setup = launching.configure(order, strict=not (dry_run or container))
    if dry_run:
        _show_plan(setup, as_json=as_json)
        return
    if container:
        raise _not_started(setup)
    runner = usable(setup.backend)
    fetch(setup)
    for line in _other_hosts(starting.planned(runner, setup)):
        click.echo(line, err=True)
    with ended_by_signals():
        if not _served(runner, setup, useless=useless_drafter, as_json=as_json):
            _served(runner, checkpoints.plain(setup), useless="keep", as_json=as_json)


def _served(runner: Backend, setup: Setup, *, useless: str, as_json: bool) -> bool:
    """Start it, show it, and stay with it; false where it is to be started again without its drafter, and was ended.

    Args:
        useless: what to do with a drafter that is: `ask` whoever sits there, `keep` or `drop` it.
    """
    with running_session(runner, setup) as session:
        proof = proved(runner, setup, session)
        if proof.drawback and _dropped(setup, useless):
            click.echo("starting again without the drafter", err=True)
            sessions.end(session, runner)
            return False
        if proof.drawback and setup.order:
            click.echo(f"  try: {setup.order.plain().typed()}", err=True)
        show(setup, session, proof, as_json=as_json)
        if not setup.options.detached:
            starting.attend(runner, session)
    return True


def _dropped(setup: Setup, useless: str) -> bool:
    """Whether a useless drafter is to be left out."""
    if useless == "ask" and sys.stdin.isatty() and not setup.options.detached:
        return click.confirm("Start again without it?", err=True)
    return useless == "drop"


def parse_hosts(text: str | None) -> tuple[str, ...]:
    """The names in `a,b`, this machine's first.

    Raises:
        UsageError: fewer than two, one twice, or one that is no name of a host.
    """
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or len(set(names)) < len(names) or not all(map(HOST.fullmatch, names)):  # noqa: PLR2004
        raise UsageError(f"--hosts {text}: two or more different names are needed", hint="like --hosts alpha,beta")
    return names


def fetch(setup: Setup) -> None:
    """Show what will be fetched, and fetch it. Nothing is, where all is here.

    Raises:
        DownloadFailed: with what to do about it.
    """
    if not setup.files:
        return
    for line in file_lines(setup):
        click.echo(line, err=True)
    if store.missing_bytes(setup.files):
        licences.shown(setup.model.name, setup.licence)
    meter = Meter()
    try:
        store.fetch(setup.files, meter)
    finally:
        meter.clear()
    store.verified(setup.files)


def file_lines(setup: Setup) -> list[str]:
    """The files, where each is, what is to be fetched, and, once for each model, under which licence."""
    lines = [line for file in setup.files for line in _file_lines(file)]
    missing = store.missing_bytes(setup.files)
    if missing:
        free = format_file_size(store.free_disk())
        lines.append(f"to fetch  {format_file_size(missing)}; {free} are free in {shelves.hub_cache()}")
        if licences.is_new(setup.model.name, setup.licence):
            lines.append(f"licence   {setup.licence}")
    return lines


def _file_lines(file: File) -> list[str]:
    """One file in a line, or in as many as a narrow terminal needs."""
    name = f"{file.role:<9} {Path(file.file).name}, {format_file_size(file.size)}"
    where = f"here ({file.source})" if file.here else f"from {file.repo}"
    short = len(f"{name}, {where}") <= NARROW
    lines = [f"{name}, {where}"] if short else [f"{name},", f"{'':<9} {where}"]
    return lines + ([f"{'':<9} {file.note}"] if file.note else [])


@contextlib.contextmanager
def running_session(backend: Backend, setup: Setup) -> Iterator[Session]:
    """A session; ended with the block, unless it is detached and all went well."""
    session = None
    try:
        with busy(f"starting {backend.name} with {setup.model.target.name}") as progress:
            session = starting.open_session(backend, setup, progress=progress)
        yield session
        if not setup.options.detached:
            sessions.end(session, backend)
    except BaseException:
        # Also where the ending itself was interrupted: it is done again, and not interrupted again.
        if session is not None:
            sessions.end(session, backend)
        raise


@contextlib.contextmanager
def opened(backend: Backend, setup: Setup) -> Iterator[tuple[Session, Proof]]:
    """As `running_session`, with its proof."""
    with running_session(backend, setup) as session:
        yield session, proved(backend, setup, session)


def proved(backend: Backend, setup: Setup, session: Session) -> Proof:
    """The proof of a session, remembered; a drafter that is useless is said to be."""
    with busy("looking whether it answers"):
        proof = starting.proved(backend, setup, session)
    if proof.drawback:
        click.echo(f"warning: {proof.drawback}", err=True)
    return proof


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end this in order: the server goes too."""

    def interrupt(number: int, frame: object) -> None:
        try:
            interrupts.interrupt(number, frame)
        except KeyboardInterrupt as ctrl_c:
            # A conversation goes on after a ctrl-c, but not after these.
            raise Interrupted("interrupted") from ctrl_c

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []
    before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


# ---- Showing


def show(setup: Setup, session: Session, proof: Proof, *, as_json: bool) -> None:
    """The endpoint and what it showed."""
    if as_json:
        document = msgspec.json.encode(launch_document.document(setup, session, proof))
        # Before it is printed: who reads it may end this at once.
        click.get_current_context().meta[streams.ANSWERED] = True
        click.echo(document)
        return
    for name, text in lines(setup, session, proof):
        click.echo(f"{click.style(f'{name:<9}', bold=True)} {text}")


def lines(setup: Setup, session: Session, proof: Proof) -> list[tuple[str, str]]:
    """The endpoint in words."""
    key = "with your key" if session.api_key else "any key"
    reach = "for this machine only" if re.match(r"https?://(127\.|localhost|\[::1\])", session.base_url) else "there"
    found = [
        ("Ready", f"{session.base_url}   OpenAI-compatible, {reach}, {key}"),
        ("Model", f"{session.model}, {session.context_tokens:,} tokens of context, {session.backend}"),
        ("Drafter", drafter_words(proof)),
    ]
    if proof.tokens_per_s:
        expected = setup.expected_tokens_per_s
        found.append(
            ("Speed", f"{proof.tokens_per_s:,.1f} tokens/s" + (f", {expected:,.1f} expected" if expected else ""))
        )
    if proof.memory_bytes:
        found.append(("Memory", memory_words(proof.memory_bytes, setup.expected_bytes)))
    stop = f"advisor stop {session.name}" if session.detached else "ctrl-c stops it"
    found.append(("Session", f"{session.name}: {stop}; advisor logs {session.name}"))
    return found


def memory_words(used: int, expected: int | None) -> str:
    """What the process holds, against what its model should need: of a tiny one, most is the program's own."""
    if not expected:
        return f"{format_bytes(used)} in the process"
    of_what = "in all" if used <= expected else "of the model alone"
    return f"{format_bytes(used)} in the process, {format_bytes(expected)} expected {of_what}"


def drafter_words(proof: Proof) -> str:
    """Whether the drafter works, in words: `active, 71% accepted, 2.1 tokens a step`."""
    if proof.active is None:
        return f"attached; {proof.reason}"
    if proof.active and proof.acceptance is None:
        return f"active: {proof.reason}"
    if not proof.active:
        return f"off, because {proof.reason}" if proof.reason else "off"
    return f"active, {proof.acceptance or 0:.0%} accepted, {proof.tokens_per_step or 1:.1f} tokens a step"


def _show_plan(setup: Setup, *, as_json: bool) -> None:
    port = setup.options.port or sessions.free_port()
    plan = starting.planned(load(setup.backend), setup, port=port)
    # A runtime that is given a repository fetches it itself.
    plan = msgspec.structs.replace(plan, command=shell.fetching(plan.command, setup.files))
    if as_json:
        click.echo(msgspec.json.encode(launch_document.planned(setup, plan)))
        return
    notes = (f"# {note}" for note in setup.notes)
    for line in (*file_lines(setup), *checkpoints.lines(setup), *notes):
        click.echo(line, err=True)
    click.echo(plan.command)
    for line in _other_hosts(plan):
        click.echo(line)
    if plan.requests:
        click.echo("# the same as calls of its API:")
        for call in plan.requests:
            click.echo(" ".join(["#", call["method"], call["url"], call.get("body", "")]).rstrip())


def _not_started(setup: Setup) -> NoBackend:
    """A container is planned, and started by whoever types it; its server can be used then."""
    port = setup.options.port or sessions.free_port()
    plan = starting.planned(load(setup.backend), setup, port=port)
    image = setup.options.container
    fetched = "" if image is None or image.here else f"; {image.image} is fetched then"
    return NoBackend(
        f"a container is not started by advisor: type it{fetched}",
        hint=f"then: advisor launch --backend {setup.backend} --server 127.0.0.1:{port}",
        command=plan.command,
    )


def _other_hosts(plan: LaunchPlan) -> list[str]:
    """What is to be typed on the other machines."""
    return [line for host, command in plan.hosts.items() for line in (f"# on {host}:", command)]
