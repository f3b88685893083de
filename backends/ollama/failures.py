"""What Ollama's errors mean, in words that tell what to do next. Texts as of August 2026."""

from __future__ import annotations

import re
from collections.abc import Callable

from advisor.errors import AdvisorError, DownloadFailed, NoBackend, RuntimeFailed, UsageError
from backends.ollama.versions import UPDATE

NOT_AN_ERROR = re.compile(r"[^\n:]*: [^\n:]*: Gemma4Assistant requires ctx_other to be set \([^)]*\)")
"""In every good load too, and first in the text of every bad one."""
LOAD_FAILED = "llama-server process has terminated"
BROKEN_OFF = "an error was encountered while running the model"
CLIENT_ERRORS = range(400, 500)


def down(url: str) -> RuntimeFailed:
    """The server does not answer, or stopped in the middle of it."""
    return RuntimeFailed(
        f"the Ollama server at {url} does not answer",
        hint="start it, or name another with OLLAMA_HOST",
        command="ollama serve",
    )


def garbled(url: str, what: object) -> RuntimeFailed:
    """It says what nobody understands."""
    return RuntimeFailed(
        f"the server at {url} sent something that is not Ollama's: {str(what)[:120]}",
        hint="a proxy in between, or a server that died while it was writing; try again",
    )


def ended_early(url: str) -> RuntimeFailed:
    """A stream ended without `done: true`."""
    return RuntimeFailed(
        f"the answer of Ollama at {url} ended in the middle",
        hint="Ollama gives up when one token repeats more than 30 times, and when its child dies; its log says which",
    )


def pull_stopped(tag: str, url: str) -> DownloadFailed:
    """The server went away while it pulled."""
    return DownloadFailed(
        f"the Ollama server at {url} stopped while it pulled {tag}",
        hint="start it again (`ollama serve`) and repeat the command: the pull goes on where it stopped",
    )


def explained(text: str, *, status: int = 0, model: str = "") -> AdvisorError:
    """What one of its errors means.

    Args:
        text: of the error, whether it came with a status or inside a stream.
        status: of the reply; 0 inside a stream.
        model: what was asked for.
    """
    for pattern, meaning in MEANINGS:
        if match := re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return meaning(match, text, model)
    kind = UsageError if status in CLIENT_ERRORS else RuntimeFailed
    return kind(f"Ollama failed: {last_line(text)}", hint="its log says more")


def last_line(text: str) -> str:
    """The line that says most, of an error that may be a child's last output."""
    told = NOT_AN_ERROR.sub("", text).removeprefix(f"{LOAD_FAILED}:")
    lines = [line.strip(" :") for line in told.splitlines() if line.strip(" :")]
    asserted = [line for line in lines if "GGML_ASSERT" in line]
    return (asserted or lines or ["llama-server ended without saying why"])[-1][:200]


Meaning = Callable[[re.Match[str], str, str], AdvisorError]


def _too_old(_match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return NoBackend(f"{model or 'this model'} needs a newer Ollama than this one", hint=UPDATE)


def _mac_only(_match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return NoBackend(f"{model or 'this model'} runs on macOS only: it is an MLX tag", hint="choose another --quant")


def _disk_full(_match: re.Match[str], _text: str, _model: str) -> AdvisorError:
    return DownloadFailed(
        "the disk that Ollama keeps its models on is full",
        hint="`ollama list` shows what is there and `ollama rm NAME` frees it; the pull goes on where it stopped",
        command="ollama list",
    )


def _mismatch(_match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return DownloadFailed(
        f"what arrived{f' of {model}' if model else ''} is damaged: its digest does not match",
        hint="repeat the command; Ollama has thrown away what was wrong",
    )


def _unknown_tag(_match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return DownloadFailed(f"Ollama's library has no {model}", hint="`advisor models` shows which tags there are")


def _unreachable(match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return DownloadFailed(
        f"Ollama cannot reach its library{f' for {model}' if model else ''}: {match[1].strip()}",
        hint="check the network of the machine that Ollama runs on; what was pulled is kept",
    )


def _not_here(match: re.Match[str], _text: str, _model: str) -> AdvisorError:
    return UsageError(
        f"Ollama has no model {match[1]!r}", hint="`ollama list` shows what it has", command="ollama list"
    )


def _wrong_drafter(_match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return RuntimeFailed(
        f"the drafter does not belong to {model or 'this model'}: it is made for another width",
        hint="leave out --drafter to get the right one, or launch with --no-drafter",
    )


def _no_layers(_match: re.Match[str], _text: str, model: str) -> AdvisorError:
    return RuntimeFailed(
        f"what {model or 'this model'} was given as drafter is none: it has no MTP layers",
        hint="leave out --drafter to get the right one, or launch with --no-drafter",
    )


def _memory(_match: re.Match[str], text: str, model: str) -> AdvisorError:
    told = re.search(r"requires more system memory \(([^)]+)\) than is available \(([^)]+)\)", text)
    more = f": it needs {told[1]}, {told[2]} are free" if told else ""
    return RuntimeFailed(
        f"out of memory while Ollama loaded {model or 'the model'}{more}",
        hint="less is needed with a smaller --context, --no-drafter or a smaller quant",
        command="advisor recommend",
    )


def _architecture(match: re.Match[str], _text: str, _model: str) -> AdvisorError:
    return NoBackend(f"this Ollama does not know the architecture {match[1]!r}", hint=UPDATE)


def _child_died(_match: re.Match[str], text: str, _model: str) -> AdvisorError:
    return RuntimeFailed(
        f"Ollama's llama-server died while it answered: {text.rpartition(': ')[2]}",
        hint="ask again: Ollama starts a new one; if it was killed for want of memory, a smaller --context needs less",
    )


def _load_failed(_match: re.Match[str], text: str, model: str) -> AdvisorError:
    return RuntimeFailed(f"{model or 'the model'} does not load in Ollama: {last_line(text)}", hint="its log says more")


MEANINGS: tuple[tuple[str, Meaning], ...] = (
    (r"requires macos", _mac_only),
    (r"\b412\b|requires a newer version of ollama", _too_old),
    (r"no space left on device|not enough space|disk quota exceeded", _disk_full),
    (r"digest mismatch", _mismatch),
    (r"pull model manifest: .*(?:file does not exist|not found)", _unknown_tag),
    (r"(?:pull model manifest|max retries exceeded): (.*)", _unreachable),
    (r"model '([^']*)' not found", _not_here),
    (r"ggml_can_mul_mat", _wrong_drafter),
    (r"doesn't contain MTP layers|failed to create MTP context", _no_layers),
    (r"unknown model architecture: '?([\w-]+)", _architecture),
    (r"requires more system memory|out of memory|failed to allocate|bad_alloc|cudaMalloc failed", _memory),
    (BROKEN_OFF, _child_died),
    (LOAD_FAILED, _load_failed),
)
"""In this order: a text may hold several."""
