"""The words beside the numbers: why a pick is the pick, what to mind, and what it would take when nothing fits."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from advisor.choice.candidates import (
    Candidate,
    Terms,
    computes_on_cpu,
    demand,
    gpus_are_slow,
    least_memory,
    most_memory,
    uses_gpus,
)
from advisor.errors import NothingFits
from advisor.hardware import phones, simulate
from advisor.knowledge.profile import Advice, ModelProfile, Quant
from advisor.machine import Availability, Machine
from advisor.memory.footprint import repacks
from advisor.memory.placement import Budget, budget, in_words, place, single_copy, usable_gpus

PROMISED_GAIN = 2.0
"""The article promises up to three times the speed; a gain below twice needs a word."""

LONG_PROMPT_MINUTES = 1.5
SLOWED = 0.75
"""A full context that costs more than a quarter of the speed is worth a warning."""


def reasons(pick: Candidate, picks: list[Candidate], terms: Terms) -> tuple[str, ...]:
    """Why this one: where it fits, and what it gives and takes compared with the others."""
    said = [placement_in_words(pick)]
    if terms.model is None:
        said.append(compared(pick, picks, terms))
    if pick is picks[0] and terms.use_case.advice:
        said.append(against_advice(pick, picks, terms.use_case.advice))
    return tuple(said)


def against_advice(pick: Candidate, picks: list[Candidate], advice: Advice) -> str:
    """Whether the article's answer for this place holds here, and if not, what has overruled it."""
    named = " or ".join(name.upper() for name in advice.models)
    if pick.model.id in advice.models:
        gain = pick.speed.drafter_gain
        if pick.model.architecture.experts and gain < PROMISED_GAIN:
            return (
                f"the article of May 2026 names {named} here too, but not for its drafter: one user gains {gain:.1f}x, "
                "because each verified token wakes more experts"
            )
        return f"the article of May 2026 names {named} here too: {advice.reason}"
    return f"the article of May 2026 names {named} here; {overruled(pick, picks, advice)}"


def overruled(pick: Candidate, picks: list[Candidate], advice: Advice) -> str:
    if pick.model.id == "12b":
        return "it did not know 12B, which came in June"
    if pick.model.architecture.experts and pick.quant.qat and pick.placement.mode == "gpu":
        return f"since June the QAT file of {short_name(pick)} needs only {in_words(single_copy(pick.load))}"
    rival = next((one for one in picks if one.model.id in advice.models), None)
    if rival is None:
        return "that does not run well enough here"
    if rival.quality > pick.quality:
        return f"that would run at {rival.speed.decode:.0f} tok/s here"
    return f"that would have {100 * rival.quality / pick.quality:.0f}% of the quality"


def short_name(pick: Candidate) -> str:
    return pick.model.name.removeprefix("Gemma 4 ")


def compared(pick: Candidate, picks: list[Candidate], terms: Terms) -> str:
    """The pick against the best of the others, a runner-up against the pick."""
    first = picks[0]
    if pick is not first:
        return f"{relation(pick, first)} {first.model.name}"
    best = max(picks, key=lambda other: other.quality)
    if best is pick:
        return f"the best of what runs here for {terms.use_case.name.lower()}"
    return f"{relation(pick, best)} {best.model.name}, the best that runs here"


def relation(one: Candidate, other: Candidate) -> str:
    quality, times = 100 * one.quality / other.quality, one.speed.decode / other.speed.decode
    return f"{quality:.0f}% of the quality and {times:.1f}x the speed of"


def placement_in_words(pick: Candidate) -> str:
    placed = pick.placement
    room = in_words(placed.headroom_bytes)
    if placed.mode == "gpu":
        where = "the memory that GPU and system share" if pick.limits.unified else "the GPU"
        if pick.idle_gpus:
            where = f"one of the {pick.idle_gpus + 1} GPUs"
        elif len(pick.gpus) > 1:
            where = f"{len(pick.gpus)} GPUs"
        return f"fits into {where} with {room} to spare"
    if placed.mode == "experts-on-cpu":
        return f"the experts of {placed.cpu_expert_layers} of {pick.load.layers} layers stay in main memory"
    if placed.mode == "split":
        return f"{placed.gpu_layers} of {pick.load.layers} layers fit on the GPU, the rest runs on the processor"
    return f"runs on the processor with {room} of memory to spare"


def warnings(pick: Candidate, terms: Terms, machine: Machine) -> tuple[str, ...]:
    return tuple(_warnings(pick, terms, machine))


def _warnings(pick: Candidate, terms: Terms, machine: Machine) -> Iterator[str]:
    if said := phones.advice(pick.model, machine.os):
        yield said
    yield from simulate.assumptions(machine)
    yield from backend_warnings(terms, machine)
    yield from speed_warnings(pick, terms)
    yield from gpu_warnings(pick, terms, machine)
    copy = pick.load.repacked if pick.placement.mode == "cpu" and repacks(machine.cpu) else 0
    if copy and single_copy(pick.load) + copy > pick.limits.host:
        yield f"llama.cpp keeps a repacked copy of {in_words(copy)} beside the file; --no-repack avoids it"
    if terms.use_case.concurrent_users > 1:
        yield f"{terms.use_case.concurrent_users} users share the context; the speed is that of one alone"


def speed_warnings(pick: Candidate, terms: Terms) -> Iterator[str]:
    if pick.speed.decode < terms.min_tokens_per_s:
        yield (
            f"slower than the {terms.min_tokens_per_s:g} tok/s that {terms.use_case.name.lower()} asks for: "
            "nothing better is faster here"
        )
    minutes = terms.context_tokens / pick.speed.prefill / 60
    if minutes > LONG_PROMPT_MINUTES:
        yield f"a prompt that fills the context takes about {minutes:.0f} minutes to read"
    if pick.speed.full < SLOWED * pick.speed.decode:
        yield f"about {pick.speed.full:.0f} tok/s once the context of {terms.context_tokens:,} tokens is full"


def gpu_warnings(pick: Candidate, terms: Terms, machine: Machine) -> Iterator[str]:
    cards = usable_gpus(machine)
    if not cards or computes_on_cpu(terms.backend):
        return
    if gpus_are_slow(machine):
        yield "the GPU reads its memory more slowly than the processor reads its own, so it is left out"
    elif pick.placement.mode != "gpu":
        yield "part of the model is not on the GPU: prompts are read slowly, and a smaller model would be faster"
    if pick.drafter.enabled and any(gpu.vendor == "apple" for gpu in cards):
        yield "on some Macs drafting was measured to be slower than plain decoding: `advisor trial` finds out here"
    if pick.placement.mode != "cpu":
        for name in dict.fromkeys(gpu.name for gpu in cards if gpu.bandwidth_bytes_per_s is None):
            yield f"{name} is not in the catalogue, so its speed is a guess: --gpu-bandwidth tells it"


def backend_warnings(terms: Terms, machine: Machine) -> Iterator[str]:
    backend = terms.backend
    if machine.simulated:
        yield f"a current {backend.name} is assumed as the backend"
    elif not any(known.name == backend.name and known.available for known in machine.backends):
        here = ", ".join(known.name for known in machine.backends if known.available)
        found = f"{here} cannot do this" if here else "no backend was found here"
        yield f"{found}; a current {backend.name} is assumed"
    if computes_on_cpu(backend) and usable_gpus(machine):
        yield idle_gpu(backend)


def idle_gpu(backend: Availability) -> str:
    """Why a GPU that is there is not used."""
    if backend.name == "native":
        return "the native engine runs on the processor only: install llama.cpp or Ollama to use the GPU"
    return f"the {backend.name} that is installed runs on the processor only: a build for the GPU would use it"


def nothing_fits(capable: list[tuple[ModelProfile, Quant]], terms: Terms, machine: Machine) -> NothingFits:
    """The error that says what it would take."""
    limits = budget(machine, gpu=uses_gpus(terms, machine), reserve=terms.reserve_bytes)
    files = [(least_memory(model, quant, terms), model, quant) for model, quant in capable]
    needed, model, quant = min(files, key=lambda entry: entry[0])
    room = f"{in_words(most_memory(limits))} can be used ({'; '.join(limits.notes)})"
    message = (
        f"nothing fits: {model.name} ({quant.name}) with {terms.context_tokens:,} tokens of context "
        f"is the smallest choice and needs {in_words(needed)}; {room}"
    )
    shorter = longest_context(model, quant, terms, limits)
    named = f" --model {terms.model}" if terms.model else ""
    if shorter:
        return NothingFits(
            message,
            hint=f"a context of {shorter:,} tokens would fit",
            command=f"advisor recommend{named} --use-case {terms.use_case.id} --context {shorter}",
        )
    if terms.model:
        return NothingFits(message, hint="a smaller model may fit", command="advisor recommend")
    return NothingFits(message, hint=f"it takes a machine with {in_words(needed - most_memory(limits))} more to use")


def longest_context(model: ModelProfile, quant: Quant, terms: Terms, limits: Budget) -> int:
    """The longest context below the one asked for with which this file fits, a power of two; 0 if none of use does."""
    context = 1 << (terms.context_tokens - 1).bit_length() - 1 if terms.context_tokens > 1 else 0
    while context >= 1024:  # noqa: PLR2004 - below, no conversation fits
        shorter = msgspec.structs.replace(terms, context_tokens=context)
        if place(demand(model, quant, shorter, None), limits):
            return context
        context //= 2
    return 0


def too_slow(fitting: list[Candidate], terms: Terms) -> NothingFits:
    """The error when memory suffices and speed does not."""
    best = max(fitting, key=lambda one: one.speed.decode)
    reach = int(best.speed.decode * 10) / 10
    named = f" --model {terms.model}" if terms.model else ""
    return NothingFits(
        f"nothing that fits reaches {terms.min_tokens_per_s:g} tok/s: the fastest is {best.model.name} "
        f"({best.quant.name}) at about {best.speed.decode:.1f}",
        hint="a lower --min-speed shows what there is",
        command=f"advisor recommend{named} --use-case {terms.use_case.id} --min-speed {reach:g}",
    )
