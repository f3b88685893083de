"""What llama-server's log says, in words that tell what to do next. Messages as of build 11400."""

from __future__ import annotations

import re
from pathlib import Path

from advisor.errors import OutOfMemory, RuntimeFailed
from advisor.files.gguf import FETCH
from advisor.units import format_bytes
from backends import logs
from backends.base import LaunchPlan

LISTENS = re.compile(r"server is listening on|listening on http")
STAMP = re.compile(r"^[\d.]+ [A-Z] +")
NOT_ERRORS = ("requires ctx_other to be set", "fit params to free device memory", "exiting due to")
"""Lines marked as errors that are normal, or that say nothing."""

BUFFER = re.compile(r"failed to allocate (?P<where>\S+) buffer of size (?P<bytes>\d+)")
SHORT = re.compile(
    r"out of memory|OutOfDeviceMemory|insufficient memory|unable to allocate|failed to allocate|bad_alloc"
    r"|invalid vector subscript",
    re.IGNORECASE,
)


def listens(log: Path) -> bool:
    """Whether the server says that it has its port."""
    return LISTENS.search(logs.tail(log)) is not None


def explain(plan: LaunchPlan, log: Path, code: int) -> RuntimeFailed:
    """Why the server ended.

    Args:
        code: its exit code, negative for a signal.
    """
    text = logs.tail(log)
    for look in (_port, _arguments, _architecture, _apart, _drafter, _memory, _damaged):
        if found := look(plan, text):
            return found
    return _ended(text, log, code)


def why_plain(log: Path) -> str:
    """Why a running server does not draft."""
    text = logs.tail(log)
    if SHORT.search(text):
        return "the server was short of memory when it loaded the drafter"
    if "speculative decoding is not supported" in text or "not supported by this context" in text:
        return "this llama-server cannot draft in this configuration"
    return "the server does not say why; its log may"


def _port(plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    if "couldn't bind" not in text:
        return None
    return RuntimeFailed(
        f"port {plan.options.port} is used by another program",
        hint="give another one with --port, or none for a free one",
    )


def _arguments(_plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    match = re.search(r"^(?:error: invalid argument: \S+|error while handling argument .+)", text, re.MULTILINE)
    if match is None:
        return None
    return RuntimeFailed(
        f"llama-server refuses an option: {match[0].removeprefix('error: ')}",
        hint="if it was given after `--`, see `llama-server --help`; otherwise update llama.cpp",
    )


def _architecture(_plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    match = re.search(r"unknown model architecture: '([^']+)'", text)
    if match is None:
        return None
    return RuntimeFailed(
        f"this llama-server does not know the architecture {match[1]!r}", hint="update llama.cpp; Gemma 4 is in it"
    )


def _apart(plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    """llama.cpp#24366: layers can be divided in ways that nobody foresaw (flags of the user's own)."""
    match = re.search(r"pre-allocated tensor \(cache_\S+\) in a buffer \((.+?)\) that cannot run", text)
    if match is None or plan.model.drafter is None:
        return None
    return RuntimeFailed(
        f"the drafter is on another device than the cache that it reads, which is on {match[1]}",
        hint="use one card (`-- --device NAME`; llama-server --list-devices names them), or --no-drafter",
    )


def _drafter(plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    draft = plan.model.drafter
    if draft is None or ("failed to load draft model" not in text and "failed to create MTP context" not in text):
        return None
    if SHORT.search(text):
        where, size = _refused(text)
        return OutOfMemory(
            f"out of memory while loading the drafter {draft.name}"
            + (f": a {where} buffer of {format_bytes(size)}" if size else ""),
            hint="--no-drafter or a smaller --context needs less",
            size=size,
            on_gpu=bool(where) and "CPU" not in where,
        )
    return RuntimeFailed(
        f"the drafter {draft.name} does not load: {_last_error(text, skip='draft model|MTP context')}",
        hint=f"{FETCH}, or launch with --no-drafter",
    )


def _memory(plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    if not SHORT.search(text):
        return None
    where, size = _refused(text)
    half = plan.model.context_tokens // 2
    less = [f"--context {half}"] if half >= 1024 else []  # noqa: PLR2004 - below, no conversation fits
    less += ["--no-drafter"] if plan.model.drafter else []
    return OutOfMemory(
        "out of memory" + (f": a {where} buffer of {format_bytes(size)}" if size else ""),
        hint=f"less is needed with {' or '.join([*less, 'a smaller quant'])}",
        command="advisor recommend",
        size=size,
        on_gpu=bool(where) and "CPU" not in where,
    )


def _refused(text: str) -> tuple[str, int]:
    """Whose buffer was refused, and its bytes; nothing where the log does not tell."""
    match = BUFFER.search(text)
    return (match["where"], int(match["bytes"])) if match else ("", 0)


def _damaged(plan: LaunchPlan, text: str) -> RuntimeFailed | None:
    match = re.search(r"error loading model: (.+)", text)
    return RuntimeFailed(f"{plan.model.target} does not load: {match[1]}", hint=FETCH) if match else None


def _ended(text: str, log: Path, code: int) -> RuntimeFailed:
    kept = f"its log is {log}"
    said = _last_error(text)
    if code >= 0:
        return RuntimeFailed(f"llama-server ended with code {code}" + (f": {said}" if said else ""), hint=kept)
    name = logs.ended_by(code)
    if name == "SIGKILL":
        return RuntimeFailed(
            "llama-server was killed (SIGKILL): by someone, or by the system for want of memory",
            hint="if it was memory: a smaller model or a shorter context needs less",
        )
    if name == "SIGILL":
        return RuntimeFailed(
            "llama-server met an instruction that this processor does not have (SIGILL): it is built for another",
            hint="install a build for this machine",
        )
    return RuntimeFailed(f"llama-server was ended by {name}" + (f": {said}" if said else ""), hint=kept)


def _last_error(text: str, skip: str = "") -> str:
    """The line that says most: an assertion, else the first of the last errors, else the last line."""
    if asserted := logs.asserted(text):
        return asserted
    lines = logs.lines(text)
    errors = [line for line in lines if re.match(r"[\d.]+ E ", line) and not any(each in line for each in NOT_ERRORS)]
    telling = [line for line in errors if not skip or not re.search(skip, line)]
    return STAMP.sub("", (telling or errors or lines or [""])[-1])
