"""`advisor run`: one answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from advisor import sessions
from advisor.errors import NoBackend, UsageError, unknown_name
from backends.base import Backend, Model, Options

DEMO = "demo"
BACKEND = "native"
AUTO = "auto"
ADAPTS = -1
"""`auto` as a number: the native engine drafts as many as pay."""
DRAFT_TOKENS = 3
"""`auto` for others."""
CONTEXT_STEP = 4096
BYTES_PER_TOKEN = 2
"""A low guess (prose has about four, code three) for all but digits, which are tokens of their own. The context is
sized before the model can count."""
ROOM = 2048
"""Tokens kept for an answer whose length nobody limits."""


@click.command(
    epilog="\b\nExamples:\n  advisor run 'What is a drafter?'\n  advisor run model.gguf --drafter mtp.gguf 'Hello'"
    "\n  cat notes.txt | advisor run - --stats"
)
@click.argument("words", nargs=-1, required=True, metavar="[MODEL] PROMPT")
@click.option("--backend", "backend_name", default=BACKEND, show_default=True, help="What runs the model.")
@click.option(
    "--drafter",
    type=click.Path(path_type=Path),
    metavar="FILE|lookup",
    help="The drafter's GGUF file; `lookup` guesses from the text itself.",
)
@click.option("--no-drafter", is_flag=True, help="Plain decoding.")
@click.option("--draft-tokens", default=AUTO, metavar="N|auto", help="Tokens drafted per round; 0: none.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Most tokens of the answer.")
@click.option("--seed", type=int, metavar="N", help="Makes sampling repeatable (with a fixed N).")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Of the processor; default: its cores.")
@click.option("--gpu-layers", type=click.IntRange(min=0), metavar="N", help="On the GPU; default: what fits.")
@click.option("--raw", is_flag=True, help="Continue the text as it is, without the chat template.")
@click.option("--stats", is_flag=True, help="Speed and acceptance, on standard error.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def command(
    words: tuple[str, ...],
    *,
    backend_name: str,
    drafter: Path | None,
    no_drafter: bool,
    draft_tokens: str,
    temperature: float,
    max_tokens: int | None,
    seed: int | None,
    threads: int | None,
    gpu_layers: int | None,
    raw: bool,
    stats: bool,
    as_json: bool,
) -> None:
    """Answer PROMPT with MODEL and print it as it comes.

    MODEL is a GGUF file, `demo` (the embedded model; the one where it is left out), or what `advisor launch` started,
    by its model or its name. PROMPT `-` reads standard input.
    """
    name, prompt = parse_words(words)
    drafts = parse_drafts(draft_tokens)
    if drafter is not None and no_drafter:
        raise UsageError("--drafter and --no-drafter exclude each other")
    use = not no_drafter and drafts != 0
    session = sessions.serving(name) if len(words) > 1 else None
    if session is not None:
        model = Model(name=session.model, target=Path(session.target), draft_tokens=session.draft_tokens)
    else:
        model = find_model(name, drafter if use else None, use_drafter=use, drafts=drafts)
        model = fitted(suited(model, backend_name), prompt, max_tokens)
    backend = usable(session.backend if session else backend_name)

    # The client brings an HTTP library; errors of usage should not wait for it.
    from advisor.client import joined, running  # noqa: PLC0415
    from advisor.demo import collect, compare  # noqa: PLC0415

    shown = Printer(quiet=as_json)
    options = Options(threads=threads, gpu_layers=gpu_layers)
    served = joined(backend, session.endpoint) if session else running(backend, backend.plan(model, options))
    with served as client:

        def ask(**options: Any) -> Any:
            if raw:
                return client.complete(prompt, **options)
            return client.chat([{"role": "user", "content": prompt}], **options)

        try:
            events = ask(temperature=temperature, max_tokens=max_tokens, seed=seed)
            answer = collect(events, lambda piece: shown.show(piece.text, thought=piece.thought))
        finally:
            shown.end()
        gain = None
        if stats and answer.timings.draft_n and backend.name == BACKEND:
            length = comparable(answer.timings.predicted_n or 0, answer.timings.predicted_per_second)
            gain = compare(
                lambda n: ask(temperature=0, max_tokens=length, draft_tokens=AUTO if n == ADAPTS else n),
                draft_tokens=model.draft_tokens, pairs=3,
            ).gain  # fmt: skip
    timings = msgspec.to_builtins(answer.timings)
    if as_json:
        document = {
            "schema": "advisor.run/1",
            "text": answer.text,
            "reasoning": answer.thought,
            "finish_reason": answer.reason,
            "model": model.name,
            "backend": backend.name,
            "timings": timings,
            "drafter": {
                "active": bool(answer.timings.draft_n),
                "draft_tokens": max(model.draft_tokens, 0) or timings["draft_tokens"] or 0,
                "accepted_per_position": timings["accepted_per_position"],
            },
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    elif answer.reason == "length" and max_tokens is None:
        click.echo("(the context is full: the answer ends here)", err=True)
    if stats:
        for line in stats_lines(timings, gain):
            click.echo(line, err=True)


class Printer:
    """Prints an answer as it comes: text to standard output, thoughts dimmed to standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._thinking = self._open = False

    def show(self, text: str, *, thought: bool) -> None:
        if self._quiet:
            return
        # Some of it may be written by others: on a terminal, control characters could do more than show text.
        if (sys.stderr if thought else sys.stdout).isatty():
            text = "".join(c for c in text if c.isprintable() or c in "\n\t")
        if thought != self._thinking:
            self._turn()
        if thought:
            click.secho(text, dim=True, nl=False, err=True)
        else:
            click.echo(text, nl=False)
        self._open = not text.endswith("\n")
        (sys.stderr if thought else sys.stdout).flush()

    def _turn(self) -> None:
        """From answering to thinking, or back: told apart without colours too."""
        self.end()
        self._thinking = not self._thinking
        click.secho("(thinking) " if self._thinking else "", dim=True, nl=not self._thinking, err=True)

    def end(self) -> None:
        """Leave the cursor at the beginning of a line, however the answer ended."""
        if self._open:
            click.echo(err=self._thinking)
            self._open = False


def parse_words(words: tuple[str, ...]) -> tuple[str, str]:
    """MODEL and the text of PROMPT.

    Raises:
        UsageError: there are more than two words, or nothing to answer.
    """
    if len(words) > 2:  # noqa: PLR2004 - MODEL and PROMPT
        raise UsageError(
            "there are more than two arguments", hint="put the prompt in quotes", command="advisor run --help"
        )
    name, prompt = words if len(words) == 2 else (DEMO, words[0])  # noqa: PLR2004
    if len(words) == 1 and (prompt == DEMO or prompt.lower().endswith(".gguf")):
        raise UsageError("there is no prompt", command=f"advisor run {prompt} 'What is a drafter?'")
    if prompt == "-":
        prompt = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    return name, prompt


def parse_drafts(text: str) -> int | None:
    """The number of drafts, None for `auto`.

    Raises:
        UsageError: neither a number from 0 to 15 nor `auto`.
    """
    if text == AUTO:
        return None
    most = 15
    if not text.isdecimal() or int(text) > most:
        raise UsageError(f"--draft-tokens is {text!r}: a number from 0 to {most}, or {AUTO}")
    return int(text)


def find_model(name: str, drafter: Path | None, *, use_drafter: bool, drafts: int | None) -> Model:
    """The files of MODEL.

    Raises:
        UsageError: no such model.
        NoBackend: it is in the catalogue but not on this machine.
    """
    tokens = drafts if drafts is not None else ADAPTS
    if name == DEMO:
        from advisor import demo  # noqa: PLC0415

        model = demo.pair(drafter=use_drafter)
        return msgspec.structs.replace(
            model, drafter=drafter or model.drafter, draft_tokens=tokens if use_drafter else 0
        )
    if name.lower().endswith(".gguf") or "/" in name or Path(name).is_file():
        path = Path(name).expanduser()
        return Model(name=path.stem, target=path, drafter=drafter, draft_tokens=tokens if drafter else 0)
    raise _elsewhere(name)


def suited(model: Model, backend_name: str) -> Model:
    """The model with a number of drafts that the backend takes."""
    if backend_name == BACKEND or model.draft_tokens != ADAPTS:
        return model
    return msgspec.structs.replace(model, draft_tokens=DRAFT_TOKENS)


def _elsewhere(name: str) -> Exception:
    """The error for a model whose files are not here: where they are, and what to type then."""
    from advisor.catalog import load  # noqa: PLC0415

    catalog = load()
    try:
        model = catalog.model(name)
    except UsageError:
        return unknown_name("model", name, [DEMO, *catalog.models], command="advisor models")
    quant = min((q for q in model.quants if q.qat), key=lambda q: q.bytes, default=model.quants[0])
    return NoBackend(
        f"{model.name} is not running",
        hint=f"launch fetches {quant.file} and its drafter from huggingface.co/{quant.repo}, and `run` uses it",
        command=f"advisor launch {model.id}",
    )


def fitted(model: Model, prompt: str, max_tokens: int | None) -> Model:
    """The model with a context that holds prompt and answer, as far as it was trained for.

    Raises:
        RuntimeFailed: the file is not what it should be.
    """
    from advisor import gguf  # noqa: PLC0415

    header, _ = gguf.pair(model.target, model.drafter)
    digits = sum(map(str.isdigit, prompt))
    needed = digits + (len(prompt.encode(errors="replace")) - digits) // BYTES_PER_TOKEN + (max_tokens or ROOM)
    context = -(-needed // CONTEXT_STEP) * CONTEXT_STEP
    return msgspec.structs.replace(model, context_tokens=min(context, header.context_length or context))


def usable(name: str) -> Backend:
    """The backend of that name, if it can be used here.

    Raises:
        UsageError: no such backend.
        NoBackend: it cannot be used here.
    """
    from backends.base import load  # noqa: PLC0415

    backend = load(name)
    found = backend.detect()
    if not found.available:
        raise NoBackend(f"{name} cannot be used here: {found.why_not}", hint=found.hint or "")
    return backend


def comparable(tokens: int, per_second: float | None) -> int:
    """Tokens to generate for a comparison with plain decoding: enough to tell, over in seconds on a slow machine."""
    return max(8, min(tokens, int(2 * (per_second or 0)), 128))


def stats_lines(timings: dict[str, Any], gain: float | None = None) -> list[str]:
    """Speed and acceptance in words. `gain`: speed against plain decoding, where it was measured."""
    lines = [
        f"prompt   {timings['prompt_n']} tokens, {timings['prompt_per_second'] or 0:,.0f} tokens/s",
        f"answer   {timings['predicted_n']} tokens, {timings['predicted_per_second'] or 0:,.1f} tokens/s",
    ]
    drafted, accepted = timings["draft_n"] or 0, timings["draft_n_accepted"] or 0
    if not drafted:
        return [*lines, "drafter  none, or never worth a guess"]
    lines.append(f"drafter  {accepted} of {drafted} accepted ({accepted / drafted:.0%}); {positions(timings)}")
    lengths = {length: rounds for length, rounds in enumerate(timings["draft_lengths"]) if rounds}
    if lengths:
        lines.append("lengths  " + ", ".join(f"{length}: {rounds}" for length, rounds in lengths.items()) + " (rounds)")
    if gain is not None:
        lines.append(f"against plain decoding here: {gain:.2f} times the speed, median of 3 pairs")
    return lines


def positions(timings: dict[str, Any]) -> str:
    """How often each position of a draft was right."""
    shares = timings["accepted_per_position"]
    return "by position " + ", ".join(f"{share:.0%}" for share in shares) if shares else "positions not counted"
