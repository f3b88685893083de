"""`advisor run`: one answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from advisor.commands.values import Number
from advisor.errors import UsageError
from advisor.running import attachments
from advisor.running.order import AUTO, Order, drafts_in

if TYPE_CHECKING:
    from advisor.commands.answerer import Answerer
    from advisor.running.demo import Answer


@click.command(
    epilog="\b\nExamples:\n  advisor run 'What is a drafter?'\n  advisor run 12b 'Write a haiku about memory.'"
    "\n  advisor run model.gguf --drafter mtp.gguf 'Hello'\n  cat notes.txt | advisor run - --stats"
    "\n  advisor run 12b --attach photo.jpg 'What is this?'"
)
@click.argument("words", nargs=-1, required=True, metavar="[MODEL] PROMPT")
@click.option("--backend", metavar="B", help="What runs MODEL; by default the best one here, for files native.")
@click.option(
    "--drafter",
    type=click.Path(path_type=Path),
    metavar="FILE|lookup",
    help="GGUF file of another drafter than the one found; `lookup` guesses from the text itself.",
)
@click.option("--no-drafter", is_flag=True, help="Decode without a drafter.")
@click.option("--draft-tokens", default=AUTO, metavar="N|auto", help="Tokens to draft per round; 0 drafts none.")
@click.option("--temperature", type=Number(0, 100), default=0.0, show_default=True, metavar="T", help="0 is greedy.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer, in tokens.")
@click.option("--seed", type=int, metavar="N", help="Makes sampling repeatable, given a fixed --draft-tokens.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), metavar="N", help="Processor threads; by default one per core."
)
@click.option(
    "--gpu-layers", type=click.IntRange(min=0), metavar="N", help="Layers to put on the GPU; by default what fits."
)
@click.option(
    "--attach",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A picture or sound that the prompt is about; may be repeated.",
)
@click.option("--raw", is_flag=True, help="Continue the prompt as plain text, without the chat template.")
@click.option("--stats", is_flag=True, help="Print speed and acceptance to standard error.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.run/1).")
def command(
    words: tuple[str, ...],
    *,
    backend: str | None,
    drafter: Path | None,
    no_drafter: bool,
    draft_tokens: str,
    temperature: float,
    max_tokens: int | None,
    seed: int | None,
    threads: int | None,
    gpu_layers: int | None,
    attach: tuple[Path, ...],
    raw: bool,
    stats: bool,
    as_json: bool,
) -> None:
    """Answer PROMPT with MODEL, and print the answer as it comes.

    MODEL is a running session, by its name or its model; a GGUF file; `demo` (the embedded model); or e2b,
    e4b, 12b, 26b, 31b, fetched if need be and started for this answer. By default it is the session that runs, or else
    the demo. PROMPT `-` reads standard input. A session that needs an API key is sent $ADVISOR_API_KEY.
    """
    name, prompt = parse_words(words)
    drafts = drafts_in(draft_tokens)
    if drafter is not None and no_drafter:
        raise UsageError("--drafter and --no-drafter exclude each other", command="advisor run --help")
    if attach and raw:
        raise UsageError("--attach and --raw exclude each other", hint="a text that goes on has no pictures or sounds")
    question = attachments.content(prompt, attach)
    # What answers brings an HTTP library; errors of usage should not wait for it.
    from advisor.commands.answerer import answerer  # noqa: PLC0415
    from advisor.console.printer import Printer  # noqa: PLC0415

    order = Order(
        model=name,
        backend=backend,
        drafter=drafter,
        use_drafter=not no_drafter and drafts != 0,
        draft_tokens=drafts,
        threads=threads,
        gpu_layers=gpu_layers,
        projector=bool(attach),
    )
    shown = Printer(quiet=as_json)
    with answerer(order, prompt, max_tokens) as asked:
        answer = asked.ask(question, shown, raw=raw, temperature=temperature, max_tokens=max_tokens, seed=seed)
        gain = asked.gain(question, answer.timings, raw=raw) if stats else None
    timings = msgspec.to_builtins(answer.timings)
    if as_json:
        click.echo(json.dumps(document(answer, asked), ensure_ascii=False))
    elif answer.reason == "length" and max_tokens is None:
        click.echo("(the context is full: the answer ends here)", err=True)
    if stats:
        for line in stats_lines(timings, gain):
            click.echo(line, err=True)


def document(answer: Answer, asked: Answerer) -> dict[str, Any]:
    """`advisor.run/1`."""
    timings = msgspec.to_builtins(answer.timings)
    return {
        "schema": "advisor.run/1",
        "text": answer.text,
        "reasoning": answer.thought,
        "finish_reason": answer.reason,
        "model": asked.model,
        "backend": asked.backend.name,
        "timings": timings,
        "drafter": {
            "active": bool(answer.timings.draft_n),
            "draft_tokens": max(asked.draft_tokens, 0) or timings["draft_tokens"] or 0,
            "accepted_per_position": timings["accepted_per_position"],
        },
    }


def parse_words(words: tuple[str, ...]) -> tuple[str | None, str]:
    """MODEL, None where it is left out, and the text of PROMPT.

    Raises:
        UsageError: there are more than two words, or nothing to answer.
    """
    if len(words) > 2:  # noqa: PLR2004 - MODEL and PROMPT
        raise UsageError(
            "there are more than two arguments", hint="put the prompt in quotes", command="advisor run --help"
        )
    name, prompt = words if len(words) == 2 else (None, words[0])  # noqa: PLR2004
    if len(words) == 1 and _is_model(prompt):
        raise UsageError("there is no prompt", command=f"advisor run {prompt} 'What is a drafter?'")
    if prompt == "-":
        prompt = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    return name, prompt


def _is_model(word: str) -> bool:
    """Whether a lonely word can only be MODEL."""
    from advisor.knowledge.catalog import load  # noqa: PLC0415

    return word.lower() in ("demo", *load().models) or word.lower().endswith(".gguf")


def _rate(tokens_per_s: float | None, places: int) -> str:
    """A speed after a count; nothing where no server and no clock tells."""
    return "" if tokens_per_s is None else f", {tokens_per_s:,.{places}f} tokens/s"


def stats_lines(timings: dict[str, Any], gain: float | None = None) -> list[str]:
    """Speed and acceptance in words. `gain`: speed against plain decoding, where it was measured."""
    lines = [
        f"prompt   {timings['prompt_n']} tokens{_rate(timings['prompt_per_second'], 0)}",
        f"answer   {timings['predicted_n']} tokens{_rate(timings['predicted_per_second'], 1)}",
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
