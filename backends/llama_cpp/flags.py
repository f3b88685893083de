"""The command line of llama-server for a model and its placement. Names as in the help of build 10513."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Collection, Sequence

from backends.base import Model, Options

SECRET = "--api-key"  # noqa: S105 - the name of an option
ALL = 99
"""More layers than any drafter has."""


def command_line(program: str, model: Model, options: Options, known: Collection[str]) -> tuple[str, ...]:
    """The whole command.

    Args:
        program: llama-server's path.
        known: the options that this build knows; those it may do without are left out where they are not among them.
    """
    # The context is always given: with it left out, a server short of memory drops the drafter without a word
    # (llama.cpp#24758). It is shared out among the slots.
    words = [program, "-m", str(model.target), "--alias", model.name]
    words += ["-c", str(model.context_tokens * options.sequences), "--parallel", str(options.sequences)]
    words += _drafter(model, options)
    words += _placement(options)
    if model.projector is not None:
        words += ["--mmproj", str(model.projector)]
    if options.threads is not None:
        words += ["--threads", str(options.threads)]
    words += ["--host", options.host, "--port", str(options.port), "--jinja", "--metrics"]
    if "--cors-origins" in known and "--cors-origins" not in options.extra:
        # Otherwise any web page that the user opens may talk to the model.
        words += ["--cors-origins", "localhost"]
    return (*words, *options.extra)


def _drafter(model: Model, options: Options) -> list[str]:
    if model.drafter is None or not model.draft_tokens:
        return []
    words = ["--model-draft", str(model.drafter), "--spec-type", "draft-mtp"]
    words += ["--spec-draft-n-max", str(model.draft_tokens)]
    if options.gpu_layers is not None:
        # The fit cannot measure a drafter (llama.cpp#24795), so it is told where the drafter goes.
        words += ["--spec-draft-ngl", str(ALL if options.gpu_layers else 0)]
    return words


def _placement(options: Options) -> list[str]:
    words = [] if options.gpu_layers is None else ["-ngl", str(options.gpu_layers)]
    if options.cpu_expert_layers:
        words += ["--n-cpu-moe", str(options.cpu_expert_layers)]
    if options.kv_type != "f16":
        # A quantised V needs flash attention.
        words += ["--cache-type-k", options.kv_type, "--cache-type-v", options.kv_type, "--flash-attn", "on"]
    return words


def key(extra: Sequence[str]) -> str | None:
    """The (first) key that the server was told to want."""
    words = [*extra, ""]
    return words[words.index(SECRET) + 1].partition(",")[0] or None if SECRET in words else None


def quoted(argv: Sequence[str], extra: Sequence[str] = ()) -> str:
    """One line for the user's shell; a key given after `--` is not shown."""
    shown = list(argv)
    if SECRET in extra:
        at = shown.index(SECRET)
        shown[at + 1 : at + 2] = ["..."]
    return subprocess.list2cmdline(shown) if os.name == "nt" else shlex.join(shown)
