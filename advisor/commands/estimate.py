"""`advisor estimate`: memory and speed of one configuration, of the catalogue or of any Gemma 4 GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import click
import msgspec

from advisor.choice import estimate
from advisor.choice import subject as subjects
from advisor.choice.request import choose_backend, reads_checkpoints
from advisor.choice.subject import Draft, Subject
from advisor.commands.recommend import correcting, the_machine, the_reserve
from advisor.errors import RuntimeFailed, UsageError, unknown_name
from advisor.files import gguf
from advisor.files.gguf import Header
from advisor.knowledge import catalog
from advisor.memory.footprint import KvType
from advisor.running.order import DEMO, is_file

EPILOG = """\b
MODEL is e2b, e4b, 12b, 26b, 31b, demo, a path to a GGUF (the first part of a
split one), an http(s) URL, or hf:owner/repo/file.gguf; of a remote file only
the header is fetched.

\b
Examples:
  advisor estimate 26b --context 32768
  advisor estimate 31b --quant Q8_0 --simulate "2x RTX 3090, 128GB"
  advisor estimate ./my-gemma.gguf --drafter ./mtp-gemma-4-12B-it.gguf
  advisor estimate hf:unsloth/gemma-4-12b-it-GGUF/gemma-4-12b-it-Q8_0.gguf

\b
Exit codes: 0 it fits, 2 wrong usage, 3 it does not fit (the estimate is
printed all the same), 4 the backend cannot be used, 5 a remote header cannot
be read, 6 the file is damaged or not Gemma 4.
"""


@click.command(epilog=EPILOG)
@click.argument("model")
@click.option("--quant", metavar="Q", help="File of the catalogue, such as Q8_0; by default a QAT one.")
@click.option("--context", type=int, metavar="N", help="Context length in tokens; by default 8192.")
@click.option(
    "--depth", type=int, metavar="N", help="Tokens already in the context when speed is stated; by default 2048."
)
@click.option(
    "--kv-type", default="f16", show_default=True, metavar="T", help="Type of the KV cache: f16, q8_0 or q4_0."
)
@click.option(
    "--ubatch", type=int, default=512, show_default=True, metavar="N", help="Size of the micro-batch, in tokens."
)
@click.option("--drafter", metavar="FILE", help="GGUF file of the drafter; by default the catalogue's, where it pays.")
@click.option("--no-drafter", is_flag=True, help="Decode without a drafter.")
@click.option("--projector", is_flag=True, help="Count the projector for images and audio too.")
@click.option("--backend", metavar="B", help="llama.cpp, ollama, native or a plugin; by default the best one here.")
@click.option(
    "--simulate", "spec", metavar="SPEC", help='A machine to imagine: "RTX 4090, 64GB", "M3 Max 64GB", "cpu, 16GB".'
)
@click.option(
    "--machine",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another machine, as `detect --json` described it.",
)
@correcting
@click.option("--reserve", metavar="SIZE", help="Memory to leave free on each device, such as 2GiB.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.estimate/1).")
def command(  # noqa: PLR0917 - click passes them by name
    model: str,
    quant: str | None,
    context: int | None,
    depth: int | None,
    kv_type: str,
    ubatch: int,
    drafter: str | None,
    no_drafter: bool,
    projector: bool,
    backend: str | None,
    spec: str | None,
    file: Path | None,
    gpu: str | None,
    memory: str | None,
    reserve: str | None,
    as_json: bool,
) -> int:
    """Estimate memory and speed of one configuration, whether it fits or not.

    Nothing is started, and nothing is downloaded but the header of a remote file.
    """
    if drafter and no_drafter:
        raise UsageError("--drafter and --no-drafter exclude each other", command="advisor estimate --help")
    if kv_type not in get_args(KvType):
        raise unknown_name("value of --kv-type", kv_type, get_args(KvType), command="advisor estimate --help")
    known = catalog.load()
    machine = the_machine(spec, file, known, gpu=gpu, memory=memory)
    if backend in known.runtimes:
        raise reads_checkpoints(backend, None if has_header(model) else model)
    chosen = choose_backend(backend, machine, known.use_case("chat"))
    subject = the_subject(model, quant, known)
    asked = estimate.question(
        subject,
        chosen,
        context=context,
        depth=depth,
        kv_type=cast(KvType, kv_type),
        micro_batch=ubatch,
        reserve=None if reserve is None else the_reserve(reserve),
        projector=projector,
    )
    draft = None if no_drafter else the_draft(drafter, subject)
    refusal = estimate.no_drafter_reason(chosen, switched_off=no_drafter, draft=draft)
    found = estimate.estimate(subject, asked, None if refusal else draft, refusal, machine=machine, catalog=known)
    show(found, as_json=as_json)
    return 0 if found.fits else 3


def show(found: estimate.Estimate, *, as_json: bool) -> None:
    from advisor.pages.estimate_document import document  # noqa: PLC0415

    answer = document(found)
    if as_json:
        click.echo(msgspec.json.encode(answer))
        return
    from advisor.pages import estimate_page  # noqa: PLC0415 - rich takes longer to import than the answer takes to find

    estimate_page.show(answer)


def the_subject(model: str, quant: str | None, known: catalog.Catalog) -> Subject:
    """What MODEL names.

    Raises:
        UsageError: neither a size nor a file, or `--quant` beside a file.
    """
    if not has_header(model):
        return subjects.from_catalogue(known.model(model), quant)
    if quant is not None:
        raise UsageError("--quant chooses among the catalogue's files; the file given has its own", hint="leave it out")
    return subjects.from_header(header(model), "local file" if not remote(model) else model, known)


def the_draft(drafter: str | None, subject: Subject) -> Draft | None:
    """The drafter that was named, else the one that belongs to the model."""
    if drafter is not None:
        return subjects.given_draft(header(drafter), subject)
    if subject.header is not None and subject.file == "demo.gguf":
        from advisor.running.demo import pair  # noqa: PLC0415

        found = pair().drafter
        return subjects.given_draft(gguf.read(found), subject) if found else None
    return subjects.usual_draft(subject)


def has_header(model: str) -> bool:
    """Whether MODEL means a file, here or elsewhere, and not a size of the catalogue."""
    return model.lower() == DEMO or remote(model) or is_file(model)


def remote(model: str) -> bool:
    return model.startswith(("http://", "https://", "hf:"))


def header(model: str) -> Header:
    """The header of a local or remote file.

    Raises:
        DownloadFailed: a remote one cannot be read.
        RuntimeFailed: it is damaged.
    """
    if remote(model):
        from advisor.files import remote as reader  # noqa: PLC0415 - httpx is for remote files only

        return reader.header(model)
    if model.lower() == DEMO:
        from advisor.running.demo import pair  # noqa: PLC0415

        return gguf.read(pair().target)
    try:
        return gguf.read_whole(Path(model))
    except (ValueError, OSError) as error:
        raise RuntimeFailed(f"{model!r} cannot be read: {error}") from None
