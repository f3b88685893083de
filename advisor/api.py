"""The functions for other programs: `from advisor import detect, recommend`."""

from __future__ import annotations

from advisor.choice.candidates import Prefer
from advisor.choice.ranking import rank
from advisor.choice.request import Request
from advisor.hardware import simulate
from advisor.knowledge import catalog
from advisor.machine import Machine
from advisor.pages.report import Document, document
from advisor.services import serving


def detect(*, backends: bool = True) -> Machine:
    """This machine: processor, memory, GPUs and what can run models here. Takes about a tenth of a second.

    Args:
        backends: ask the installed backends too.

    Raises:
        ProfileError: a file of the catalogue is damaged.
    """
    from advisor.hardware.detection import detect as look  # noqa: PLC0415 - a described machine needs no probes

    return look(catalog.load().devices.values(), backends=backends)


def recommend(
    machine: Machine | str | None = None,
    *,
    use_case: str = "chat",
    context_tokens: int | None = None,
    prefer: Prefer | None = None,
    min_tokens_per_s: float | None = None,
    backend: str | None = None,
    model: str | None = None,
    drafter: bool = True,
    reserve_bytes: int | None = None,
) -> Document:
    """Which Gemma 4 suits a machine, and why: the document that `advisor recommend --json` prints, as records.

    Takes a few milliseconds after the first call; `msgspec.json.encode` turns the result into JSON::

        >>> from advisor import recommend
        >>> answer = recommend("RTX 3060 12GB, 32GB")
        >>> answer.recommendations[0].model
        '12b'

    Args:
        machine: from `detect()`, or in words as for `--simulate` (`"M3 Max 64GB"`); this machine by default, which is
            then detected anew.
        use_case: chat, coding, reasoning, agents, vision, audio, long-context, mobile, desktop, production or
            max-quality.
        context_tokens, prefer, min_tokens_per_s: the use case's own by default.
        backend: llama.cpp, ollama, native or a plugin; the best one that is there by default.
        model: only this one (`"26b"`).
        drafter: whether drafters are considered.
        reserve_bytes: memory to leave free on each device, in place of the usual margins.

    Raises:
        UsageError: an unknown name or an impossible number.
        NothingFits: nothing fits the memory, or nothing is fast enough.
        NoBackend: the backend asked for cannot do this here.
    """
    known = catalog.load()
    request = Request(
        use_case=use_case,
        context_tokens=context_tokens,
        prefer=prefer,
        min_tokens_per_s=min_tokens_per_s,
        backend=backend,
        model=model,
        drafter=drafter,
        reserve_bytes=reserve_bytes,
    )
    if machine is None:
        machine = detect()
    elif isinstance(machine, str):
        machine = simulate.parse(machine, known)
    serving.check(request, machine, known)
    return document(rank(request, machine, known))
