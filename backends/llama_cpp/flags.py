"""The command line of llama-server for a model and its placement. Names as in the help of build 11434."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

import msgspec

from advisor.machine import RuntimeDevice
from advisor.running import shell
from backends.base import Model, Options
from backends.ggml import NO_RACES
from backends.llama_cpp import devices as listed

SECRET = "--api-key"  # noqa: S105 - the name of an option
SECRET_VARIABLE = "LLAMA_API_KEY"  # noqa: S105 - the same, as llama-server reads it from the environment
KEY = "ADVISOR_API_KEY"
"""Where advisor's user keeps it."""
ALL = 99
"""More layers than any drafter has."""
NONE = "none"
MIB = 1 << 20


def command_line(
    program: str,
    model: Model,
    options: Options,
    known: Collection[str] = (),
    devices: Sequence[RuntimeDevice] | None = None,
) -> tuple[str, ...]:
    """The whole command, but for the key, which belongs into the environment.

    Args:
        program: llama-server's path.
        known: the options that this build knows, where they are known: those it may do without are left out then.
        devices: those it can compute on; None where it does not tell.
    """
    # The context is always given: with it left out, a server short of memory drops the drafter without a word
    # (llama.cpp#24758). Shared by all slots, any of them can use what the others leave.
    words = [program, "-m", str(model.target), "--alias", model.name]
    words += ["-c", str(model.context_tokens * options.sequences), "--parallel", str(options.sequences)]
    words += ["--kv-unified"] if options.sequences > 1 else []
    words += _placement(options, devices)
    words += _drafter(model, options, devices)
    words += ["--mmproj", str(model.projector)] if model.projector else []
    words += ["--threads", str(options.threads)] if options.threads else []
    words += _remembered(options, known)
    words += ["--host", options.host, "--port", str(options.port), "--jinja", "--metrics"]
    if _knows(known, "--cors-origins") and "--cors-origins" not in options.extra:
        # Otherwise any web page that the user opens may talk to the model.
        words += ["--cors-origins", "localhost"]
    return (*words, *options.extra)


def _knows(known: Collection[str], option: str) -> bool:
    return not known or option in known


def _placement(options: Options, devices: Sequence[RuntimeDevice] | None) -> list[str]:
    words = [] if options.gpu_layers is None else ["-ngl", str(options.gpu_layers)]
    words += _cards(options, devices)
    if options.cpu_expert_layers:
        words += ["--n-cpu-moe", str(options.cpu_expert_layers)]
    if options.kv_type == "f16":
        return [*words, "--flash-attn", "auto"]
    # A quantised V needs flash attention.
    return [*words, "--cache-type-k", options.kv_type, "--cache-type-v", options.kv_type, "--flash-attn", "on"]


def _cards(options: Options, devices: Sequence[RuntimeDevice] | None) -> list[str]:
    """Which of the devices. With none of them named, a build with a GPU computes long prompts there even when all
    layers are on the processor."""
    if options.gpu_layers == 0:
        return ["--device", NONE] if devices or devices is None else []
    if not options.gpus or (devices is not None and len(devices) <= 1):
        return []
    if names := listed.called(options.gpus, devices or ()):
        # How layers are divided decides where the drafter must be, so it is not left to what is free a moment later.
        parts = ",".join(str(gpu.memory_free_bytes // MIB) for gpu in options.gpus)
        return ["--device", ",".join(names), *(["--tensor-split", parts] if len(names) > 1 else [])]
    return ["--split-mode", NONE, "--main-gpu", str(options.gpus[0].index)] if len(options.gpus) == 1 else []


def _drafter(model: Model, options: Options, devices: Sequence[RuntimeDevice] | None) -> list[str]:
    if model.drafter is None or not model.draft_tokens:
        return []
    words = ["--model-draft", str(model.drafter), "--spec-type", "draft-mtp"]
    words += ["--spec-draft-n-max", str(model.draft_tokens)]
    if options.gpu_layers is None:
        return words
    # The fit cannot measure a drafter (llama.cpp#24795), so it is told where the drafter goes.
    words += ["--spec-draft-ngl", str(ALL if options.gpu_layers else 0)]
    if options.drafter_gpu and (names := listed.called([options.drafter_gpu], devices or ())):
        words += ["--spec-draft-device", *names]
    return words


def _remembered(options: Options, known: Collection[str]) -> list[str]:
    """What is kept of earlier prompts, in main memory: by default up to 8 GiB, and 32 states of each conversation."""
    words = []
    if options.cache_bytes is not None and _knows(known, "--cache-ram"):
        words += ["--cache-ram", str(options.cache_bytes // MIB)]
    if options.checkpoints is not None and _knows(known, "--ctx-checkpoints"):
        words += ["--ctx-checkpoints", str(options.checkpoints)]
    return words


def keyed(options: Options) -> Options:
    """The options with a key that was passed on taken out of the command line, where everybody could read it."""
    if SECRET not in options.extra:
        return options
    at = options.extra.index(SECRET)
    before, key, after = options.extra[:at], options.extra[at + 1 : at + 2], options.extra[at + 2 :]
    return msgspec.structs.replace(options, extra=(*before, *after), api_key="".join(key) or None)


def environment(devices: Collection[RuntimeDevice]) -> dict[str, str]:
    """What the server finds there beside what this process has, where the user's own says nothing else."""
    cuda = any(each.name.startswith("CUDA") for each in devices)
    return {name: value for name, value in NO_RACES.items() if cuda and name not in os.environ}


def quoted(argv: Sequence[str], environment: Mapping[str, str], *, keyed: bool = False) -> str:
    """One line for the user's shell.

    Args:
        keyed: whether the server wants a key, which the line names and does not show.
    """
    if os.name == "nt":
        # The command prompt sets no variables for one command.
        return shell.quoted([*argv, SECRET, f"%{KEY}%"] if keyed else argv)
    before = [f'{SECRET_VARIABLE}="${KEY}"'] if keyed else []
    before += [f"{name}={value}" for name, value in environment.items()]
    return " ".join([*before, shell.quoted(argv)])
