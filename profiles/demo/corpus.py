"""The training text of the demo model: questions with answers, and Python documentation.

The demo model is tiny, so every answer is a function of what the question asks; only the questions vary.
Figures about Gemma 4 come from the Google model card (parameters, layers, benchmarks, sampling), from the Hub
file listings of `unsloth/gemma-4-*` (file sizes) and from llama.cpp's memory formula (KV cache); facts that are
prose live beside this file in YAML. Nothing here is random: order and choice follow stable hashes, so that two
runs give the same text. Run `python -m profiles.demo.corpus` for counts and samples.
"""

from __future__ import annotations

import ast
import hashlib
import string
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, permutations, product
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
TEST_SHARE = 0.03


@dataclass(frozen=True)
class Example:
    """One question with its answer."""

    kind: str
    question: str
    answer: str
    split: str


@dataclass(frozen=True)
class Document:
    """One longer text, here the documentation inside a standard library module."""

    name: str
    text: str
    split: str


@dataclass(frozen=True)
class Intent:
    """One answer and the phrasings that ask for it; the first phrasing is the canonical one."""

    kind: str
    key: str
    answer: str
    phrasings: tuple[str, ...]
    cap: int


# --- stable choice ---


def stable(text: str) -> int:
    """A 64-bit number that depends on the text alone, in every process and version."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def split_of(text: str) -> str:
    """Train or test, by a hash of the text."""
    return "test" if stable("split:" + text) % 10_000 < TEST_SHARE * 10_000 else "train"


def shuffled(items: Iterable[str], salt: str) -> list[str]:
    """The items in an order that looks random and never changes."""
    return sorted(dict.fromkeys(items), key=lambda item: stable(f"{salt}|{item}"))


def fill(templates: Iterable[str], **slots: Sequence[str]) -> Iterator[str]:
    """Every template with every combination of the slots it names."""
    for template in templates:
        names = [field for _, field, _, _ in string.Formatter().parse(template) if field]
        for values in product(*(slots[name] for name in names)):
            yield template.format(**dict(zip(names, values, strict=True)))


# --- the many ways to put one question ---

OPENERS = (
    "hi, ",
    "Hi, ",
    "hello, ",
    "Hello! ",
    "hey, ",
    "Hey, ",
    "hi there, ",
    "good morning, ",
    "good evening, ",
    "quick question: ",
    "a question: ",
    "Question: ",
    "please tell me: ",
    "please help: ",
    "so, ",
    "ok, ",
    "okay, ",
    "and ",
    "sorry, ",
    "excuse me, ",
    "just wondering, ",
    "help me: ",
    "dear advisor, ",
    "advisor, ",
    "um, ",
    "yo ",
    "I am new to this. ",
    "beginner here: ",
    "Please be brief: ",
    "in short, ",
    "one more: ",
    "next question: ",
)
CLOSERS = (
    "",
    "",
    "",
    "",
    "",
    " please",
    ", please",
    " thanks",
    ", thanks",
    " Thank you.",
    " pls",
    " thx",
    " for me",
    " now",
    ", any advice?",
    " :)",
    " today",
    ", in short",
    " briefly",
    " in one sentence",
)
TYPOS = {
    "which": "wich",
    "model": "modle",
    "memory": "memmory",
    "recommend": "reccomend",
    "should": "shoud",
    "what": "waht",
    "the": "teh",
    "explain": "explian",
    "difference": "diffrence",
    "between": "betwen",
    "better": "beter",
    "does": "dose",
    "drafter": "draftr",
    "quantization": "quantizaton",
    "function": "funtion",
    "python": "pyhton",
    "write": "wirte",
    "computer": "compuer",
    "laptop": "labtop",
    "machine": "machin",
    "context": "contex",
    "graphics": "grafics",
    "parameters": "paramters",
    "return": "retrun",
    "would": "woud",
    "please": "plese",
    "how": "hwo",
    "with": "wiht",
    "good": "goood",
    "use": "uze",
    "know": "knwo",
    "about": "abuot",
    "have": "hav",
    "best": "bset",
    "command": "comand",
    "tell": "tel",
    "running": "runing",
    "slow": "sloww",
    "work": "wrok",
    "find": "fidn",
    "is": "si",
    "for": "fro",
}
SPELLINGS = (
    ("quantization", "quantisation"),
    ("quantized", "quantised"),
    ("recognize", "recognise"),
    ("license", "licence"),
    ("program", "programme"),
    ("color", "colour"),
    ("favorite", "favourite"),
    ("tokenizer", "tokeniser"),
    ("summarize", "summarise"),
    ("memory", "mem"),
    ("graphics card", "gpu"),
    ("What is", "What's"),
    ("cannot", "can't"),
    ("does not", "doesn't"),
    ("I am", "I'm"),
    ("you", "u"),
    ("please", "pls"),
    ("is not", "isn't"),
    ("do not", "don't"),
)


def with_typo(text: str, dice: int) -> str:
    """The text with one of its common words misspelt."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word.lower().strip("?.,!") in TYPOS]
    if not places:
        return text
    place = places[dice % len(places)]
    bare = words[place].strip("?.,!")
    words[place] = words[place].replace(bare, TYPOS[bare.lower()])
    return " ".join(words)


def respelt(text: str, dice: int) -> str:
    """The text with one word in its other spelling, where it has such a word."""
    pairs = [pair for pair in SPELLINGS if f" {pair[0]}" in f" {text}"]
    if not pairs:
        return text
    old, new = pairs[dice % len(pairs)]
    return text.replace(old, new, 1)


def recased(text: str, dice: int) -> str:
    """The text in lower case, without its end mark, or as it is."""
    choice = dice % 20
    if choice < 5:
        return text.lower()
    if choice < 9:
        return text.lower().rstrip("?.!")
    if choice < 12:
        return text.rstrip("?.!")
    if choice == 12 and not set(text) & set("`_./-{}()"):
        return text.upper()
    if choice == 13 and text.endswith("?"):
        return text + "?"
    return text


def joined(opener: str, text: str, closer: str) -> str:
    """The text between a greeting and a closing word."""
    if opener and text[:1].isupper() and text[1:2].islower() and not opener.endswith(("! ", ". ")):
        text = text[0].lower() + text[1:]
    if closer and text[-1:] in "?.!":
        mark = text[-1]
        ends = closer[-1:] in "?.)"
        text = text[:-1] + ("." if closer.startswith(" Thank") else "") + closer + ("" if ends else mark)
        return opener + text
    return opener + text + closer


def disguised(text: str, salt: str) -> str:
    """One of many dresses of the same question, chosen by the salt."""
    dice = stable(f"{salt}|{text}")
    opener = OPENERS[dice % len(OPENERS)] if dice % 1000 < 550 else ""
    dice >>= 12
    closer = CLOSERS[dice % len(CLOSERS)]
    dice >>= 8
    if dice % 8 == 0:
        text = respelt(text, dice >> 3)
    dice >>= 8
    if dice % 8 == 0:
        text = with_typo(text, dice >> 3)
    dice >>= 8
    return recased(joined(opener, text, closer), dice)


def questions_of(intent: Intent) -> Iterator[str]:
    """Up to `cap` distinct ways to ask for this intent, the canonical one first, about half of them undisguised."""
    seen: set[str] = set()
    first, *rest = intent.phrasings
    pool = [first, *shuffled(rest, intent.key)]
    plain = pool[: max(1, (intent.cap * 9) // 20)]
    lower = [recased(text, stable(text)) for text in plain]
    rounds = (disguised(pool[i % len(pool)], f"{intent.key}#{i}") for i in range(4 * intent.cap))
    for question in chain(plain[:1], lower, plain[:3], rounds):
        question = question.strip()
        if question and question not in seen:
            seen.add(question)
            yield question
            if len(seen) >= intent.cap:
                return


# --- Gemma 4 in numbers ---


@dataclass(frozen=True)
class Gemma:
    """One size of Gemma 4. Sizes in GB (10^9 bytes); KV cache in MiB at f16 for one sequence, as llama.cpp allocates."""

    id: str
    name: str
    short: str
    params: str
    layers: int
    hidden: int
    heads: int
    window: int
    context: str
    audio: bool
    files: Mapping[str, float]
    table: float
    kv: Mapping[str, int]
    drafter_mb: int
    drafter_params: str
    drafter_hidden: int
    draft: int
    read: str
    released: str
    scores: Mapping[str, str]


BENCHMARKS = ("MMLU-Pro", "GPQA Diamond", "AIME 2026", "LiveCodeBench v6", "Tau2", "MMMU-Pro", "MRCR 128K")


def scores(*values: str) -> dict[str, str]:
    """Benchmark scores in the order of BENCHMARKS (Google model card, thinking on)."""
    return dict(zip(BENCHMARKS, values, strict=True))


def sizes(qat: float, q4: float, q8: float, bf16: float) -> dict[str, float]:
    """File sizes by quantization (Hub file listing of Unsloth's repositories)."""
    return {"QAT 4-bit": qat, "Q4_K_M": q4, "Q8_0": q8, "BF16": bf16}


E2B = Gemma(
    "e2b",
    "Gemma 4 E2B",
    "E2B",
    "2.3 billion effective parameters, 5.1 billion with the embeddings",
    35,
    1536,
    8,
    512,
    "128K",
    True,
    sizes(2.6, 3.1, 5.0, 9.3),
    1.3,
    {"8K": 60, "32K": 204, "128K": 780},
    59,
    "78 million",
    256,
    2,
    "2.3 billion",
    "2 April 2026",
    scores("60.0", "43.4", "37.5", "44.0", "24.5", "44.2", "19.1"),
)
E4B = Gemma(
    "e4b",
    "Gemma 4 E4B",
    "E4B",
    "4.5 billion effective parameters, 8 billion with the embeddings",
    42,
    2560,
    8,
    512,
    "128K",
    True,
    sizes(4.2, 5.0, 8.2, 15.1),
    1.6,
    {"8K": 168, "32K": 552, "128K": 2088},
    60,
    "79 million",
    256,
    2,
    "4.6 billion",
    "2 April 2026",
    scores("69.4", "58.6", "42.5", "52.0", "42.2", "52.6", "25.4"),
)
B12 = Gemma(
    "12b",
    "Gemma 4 12B",
    "12B",
    "11.95 billion parameters",
    48,
    3840,
    16,
    1024,
    "256K",
    True,
    sizes(6.7, 7.1, 12.7, 23.8),
    0.0,
    {"8K": 608, "32K": 992, "128K": 2528, "256K": 4576},
    254,
    "423 million",
    1024,
    3,
    "11.9 billion",
    "early June 2026",
    scores("77.2", "78.8", "77.5", "72.0", "69.0", "69.1", "43.4"),
)
B26 = Gemma(
    "26b",
    "Gemma 4 26B-A4B",
    "26B",
    "25.2 billion parameters, of which 3.8 billion are active for each token",
    30,
    2816,
    16,
    1024,
    "256K",
    False,
    sizes(14.2, 16.9, 26.9, 50.5),
    0.0,
    {"8K": 460, "32K": 940, "128K": 2860, "256K": 5420},
    252,
    "420 million",
    1024,
    2,
    "3.8 billion",
    "2 April 2026",
    scores("82.6", "82.3", "88.3", "77.1", "68.2", "73.8", "44.1"),
)
B31 = Gemma(
    "31b",
    "Gemma 4 31B",
    "31B",
    "30.7 billion parameters",
    60,
    5376,
    32,
    1024,
    "256K",
    False,
    sizes(17.3, 18.3, 32.6, 61.4),
    0.0,
    {"8K": 1840, "32K": 3760, "128K": 11440, "256K": 21680},
    280,
    "470 million",
    1024,
    3,
    "30.7 billion",
    "2 April 2026",
    scores("85.2", "84.3", "89.2", "80.0", "76.9", "76.9", "66.4"),
)
FAMILY = (E2B, E4B, B12, B26, B31)
QAT = "QAT 4-bit"
TOKENS = {"8K": 8192, "32K": 32768, "128K": 131072, "256K": 262144}

ALIASES: dict[str, tuple[str, ...]] = {
    "e2b": ("Gemma 4 E2B", "E2B", "gemma4 e2b", "gemma-4-E2B", "the E2B model", "gemma 4 e2b"),
    "e4b": ("Gemma 4 E4B", "E4B", "gemma4 e4b", "gemma-4-E4B", "the E4B model", "gemma 4 e4b"),
    "12b": ("Gemma 4 12B", "12B", "gemma4 12b", "gemma-4-12B", "the 12B model", "gemma 12b"),
    "26b": (
        "Gemma 4 26B-A4B",
        "26B",
        "26B-A4B",
        "gemma4 26b",
        "Gemma 4 26B",
        "the 26B model",
        "gemma 26b a4b",
        "the MoE model",
    ),
    "31b": ("Gemma 4 31B", "31B", "gemma4 31b", "gemma-4-31B", "the 31B model", "gemma 31b"),
}


def gb(value: float) -> str:
    """A size as the answers write it: one decimal, none for whole numbers above ten."""
    return f"{value:.1f} GB" if value < 10 or round(value, 1) % 1 else f"{value:.0f} GB"


def kv_gb(model: Gemma, context: str) -> float:
    """The KV cache in GB at one of the usual context lengths."""
    return model.kv[context] * 1.048576e-3


def kv_text(model: Gemma, context: str) -> str:
    """The KV cache as people say it: MB below one GB."""
    value = kv_gb(model, context)
    return f"{value:.1f} GB" if value >= 1 else f"{round(value * 1000, -1):.0f} MB"


# --- the rule: which model fits ---


@dataclass(frozen=True)
class Pick:
    """What to run from a given size of memory upwards."""

    start: int
    model: Gemma | None
    quant: str = QAT
    context: str = "8K"
    drafter: bool = False
    other: str = ""


NOTE_26_CPU = "It is fast on a CPU because only 3.8 billion parameters are active for each token."
NOTE_31_OR_26 = "For more speed take 26B-A4B (14.2 GB), which reads far less per token."
NOTE_31_QUALITY = "If quality matters more than speed, 31B (17.3 GB) fits too with a short context."
NOTE_BF16 = "BF16 (61.4 GB) fits too, but it is slower and hardly better."
NOTE_16_CARD = "26B-A4B (14.2 GB) fits 16 GB of video memory only with a context of about 8K and no drafter."
PICKS: dict[str, tuple[Pick, ...]] = {
    "memory": (
        Pick(2, None),
        Pick(4, E2B),
        Pick(6, E4B),
        Pick(
            8,
            E4B,
            context="32K",
            drafter=True,
            other="If all of it is video memory, 12B (6.7 GB) fits tightly at 8K context.",
        ),
        Pick(10, B12, drafter=True, other="If this is system memory without a graphics card, E4B (4.2 GB) is faster."),
        Pick(12, B12, context="32K", drafter=True),
        Pick(16, B12, context="32K", drafter=True, other=NOTE_16_CARD),
        Pick(18, B26, drafter=True, other="12B (6.7 GB) is the choice with more room."),
        Pick(24, B26, context="32K", drafter=True, other=NOTE_31_QUALITY),
        Pick(
            32,
            B31,
            context="32K",
            drafter=True,
            other="On a CPU without a graphics card take 26B-A4B (14.2 GB), which is much faster.",
        ),
        Pick(40, B31, "Q8_0", drafter=True, other=NOTE_31_OR_26),
        Pick(48, B31, "Q8_0", "32K", True, NOTE_31_OR_26),
        Pick(64, B31, "Q8_0", "256K", True, NOTE_31_OR_26),
        Pick(128, B31, "Q8_0", "256K", True, NOTE_BF16),
    ),
    "vram": (
        Pick(2, E2B, other="It is tight, so keep the context short."),
        Pick(3, E2B, context="32K", drafter=True),
        Pick(4, E4B),
        Pick(6, E4B, context="32K", drafter=True),
        Pick(8, B12, other="E4B (4.2 GB) is the choice with more room."),
        Pick(10, B12, drafter=True),
        Pick(12, B12, context="32K", drafter=True),
        Pick(16, B12, context="128K", drafter=True, other=NOTE_16_CARD),
        Pick(18, B26, context="32K", drafter=True),
        Pick(22, B26, context="32K", drafter=True, other=NOTE_31_QUALITY),
        Pick(24, B26, context="128K", drafter=True, other=NOTE_31_QUALITY),
        Pick(32, B31, context="32K", drafter=True, other=NOTE_31_OR_26),
        Pick(40, B31, "Q8_0", drafter=True, other=NOTE_31_OR_26),
        Pick(48, B31, "Q8_0", "32K", True, NOTE_31_OR_26),
        Pick(64, B31, "Q8_0", "256K", True, NOTE_31_OR_26),
        Pick(80, B31, "Q8_0", "256K", True, NOTE_BF16),
        Pick(128, B31, "Q8_0", "256K", True, "The room that is left serves several users at once."),
    ),
    "ram": (
        Pick(2, None),
        Pick(4, E2B, other="It is tight, so close other programs."),
        Pick(5, E2B, context="32K"),
        Pick(8, E4B, other="E2B (2.6 GB) is about twice as fast."),
        Pick(12, B12, other="On a slow CPU E4B (4.2 GB) is the faster choice."),
        Pick(18, B26, other=NOTE_26_CPU),
        Pick(24, B26, context="32K", other=NOTE_26_CPU),
        Pick(32, B26, context="128K", other=NOTE_26_CPU),
        Pick(48, B26, "Q8_0", "32K", other="31B is better but several times slower on a CPU."),
        Pick(64, B26, "Q8_0", "128K", other="31B is better but several times slower on a CPU."),
        Pick(96, B26, "Q8_0", "256K", other="31B is better but several times slower on a CPU."),
    ),
    "mac": (
        Pick(8, E2B, context="32K", drafter=True, other="E4B (4.2 GB) works if you close other programs."),
        Pick(12, E4B, context="32K", drafter=True),
        Pick(16, B12, context="32K", drafter=True),
        Pick(24, B26, other="12B (6.7 GB) is the choice with more room."),
        Pick(32, B26, context="32K", drafter=True, other="31B (17.3 GB) is better but slower and leaves less room."),
        Pick(48, B31, context="32K", drafter=True, other=NOTE_31_OR_26),
        Pick(64, B31, "Q8_0", "32K", True, NOTE_31_OR_26),
        Pick(96, B31, "Q8_0", "256K", True, NOTE_31_OR_26),
    ),
    "small": (
        Pick(4, E2B, other="Close everything else and expect a few tokens per second."),
        Pick(8, E2B, context="32K", other="E4B (4.2 GB) is better but about half as fast."),
        Pick(16, E4B, context="32K", other="12B (6.7 GB) fits too but is very slow there."),
    ),
    "shared": (
        Pick(8, E4B),
        Pick(16, B12, context="32K", drafter=True),
        Pick(32, B26, context="128K", drafter=True, other="31B (17.3 GB) is better but slower here."),
        Pick(64, B26, "Q8_0", "128K", True, "31B (17.3 GB) is better but slower; its drafter helps most there."),
        Pick(96, B26, "Q8_0", "256K", True, "31B (17.3 GB) is better but slower; its drafter helps most there."),
    ),
}
PLACES = {
    "memory": "{n} GB",
    "vram": "{n} GB of video memory",
    "ram": "{n} GB of RAM",
    "mac": "{n} GB of unified memory",
    "shared": "{n} GB of shared memory",
    "small": "{n} GB of RAM",
}
OVERHEAD = 1.0  # compute buffers and a margin, GB
DRAFTER_EXTRA = {"e2b": 0.4, "e4b": 0.4, "12b": 0.6, "26b": 0.6, "31b": 0.6}  # the drafter's file and its buffers, GB


def pick_for(place: str, size: int) -> Pick:
    """The last rule of the place that starts at or below the size."""
    return [pick for pick in PICKS[place] if pick.start <= size][-1]


def need_gb(pick: Pick, place: str) -> float:
    """Weights, KV cache, overhead and drafter; on a card, E2B and E4B keep their embedding table in RAM (llama.cpp)."""
    assert pick.model is not None
    weights = pick.model.files[pick.quant] - (pick.model.table if place == "vram" else 0.0)
    drafter = DRAFTER_EXTRA[pick.model.id] if pick.drafter else 0.0
    return weights + kv_gb(pick.model, pick.context) + OVERHEAD + drafter


def launch_command(pick: Pick) -> str:
    """The command that starts the pick."""
    assert pick.model is not None
    quant = "" if pick.quant == QAT else f" --quant {pick.quant}"
    return f"`advisor launch {pick.model.id}{quant} --context {TOKENS[pick.context]}`"


def drafter_clause(pick: Pick) -> str:
    """What to do about the drafter."""
    assert pick.model is not None
    if pick.drafter:
        return f"Use its drafter with {pick.model.draft} draft tokens."
    return "Leave the drafter off at first and let `advisor trial` measure it."


def room_clause(pick: Pick, place: str, size: int) -> str:
    """What it needs and what is left."""
    need, left = need_gb(pick, place), size - need_gb(pick, place)
    if place == "mac":
        left = size * (0.67 if size <= 36 else 0.75) - need
        what = f"At {pick.context} context it needs about {gb(need)}; macOS lets the GPU use about {gb(left + need)}"
        return what + "."
    where = {"vram": " of the card" if size > 8 else ""}.get(place, "")
    if place == "vram" and pick.model is not None and pick.model.table:
        end = (
            f"so about {gb(left)} stay free"
            if left >= 0.6
            else "which just fits"
            if left >= 0
            else "a little more than it has"
        )
        return f"Its embedding table stays in RAM; at {pick.context} context the card needs about {gb(need)}, {end}."
    if left < 0.6:
        return f"At {pick.context} context it needs about {gb(need)}, which just fits."
    return f"At {pick.context} context it needs about {gb(need)}, so about {gb(left)}{where} stay free."


def fit_answer(place: str, size: int) -> str:
    """The answer to "which model fits" for a size of memory."""
    pick, room = pick_for(place, size), PLACES[place].format(n=size)
    if pick.model is None:
        return (
            f"{room} is too little for a comfortable run. The smallest model is Gemma 4 E2B: its QAT 4-bit file has 2.6 GB "
            "and it needs about 3.7 GB in all. Try it with 4 GB or more."
        )
    lead = f"For {room} take {pick.model.name} with the {pick.quant} file ({gb(pick.model.files[pick.quant])})."
    parts = (
        lead,
        room_clause(pick, place, size),
        drafter_clause(pick),
        pick.other,
        f"Start it with {launch_command(pick)}.",
    )
    return " ".join(part for part in parts if part)


SIZES = (
    *range(2, 25),
    26,
    28,
    30,
    32,
    36,
    40,
    48,
    56,
    64,
    72,
    80,
    96,
    100,
    112,
    128,
    144,
    160,
    192,
    256,
    320,
    384,
    512,
)
MAC_SIZES = (8, 12, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512)
FIT_ASK = (
    "Which model fits {s}?",
    "Which Gemma fits {s}?",
    "Which Gemma 4 model fits in {s}?",
    "What fits {s}?",
    "{s}?",
    "{s}",
    "What can I run with {s}?",
    "What can I run on {s}?",
    "Which model for {s}?",
    "Best model for {s}?",
    "best gemma for {s}",
    "What is the best Gemma 4 for {s}?",
    "I have {s}. Which model should I use?",
    "I have {s}",
    "I've got {s}, what now?",
    "My computer has {s}. Which Gemma 4 should I take?",
    "my laptop has {s}, which model?",
    "My PC has {s}.",
    "Which Gemma 4 would you recommend for {s}?",
    "recommend a model for {s}",
    "Can you recommend a model for {s}?",
    "What should I run on a machine with {s}?",
    "Which model is right for {s}?",
    "what's the biggest model that fits {s}?",
    "largest gemma for {s}",
    "Which quant fits {s}?",
    "Which quantization should I use with {s}?",
    "which file for {s}",
    "Is {s} enough for Gemma 4?",
    "Can I run Gemma 4 with {s}?",
    "will gemma 4 run on {s}",
    "Does Gemma 4 work with {s}?",
    "With {s}, which model is best?",
    "I only have {s}. What works?",
    "There are {s} in my machine; what do you suggest?",
    "Which of the five models suits {s}?",
    "Tell me the right model for {s}.",
    "suggest a gemma for {s}",
    "gemma {s}",
    "gemma 4 {s}",
    "model for {s}",
    "what llm fits {s}",
    "Which local model fits {s}?",
    "How far do I get with {s}?",
    "I want to run Gemma 4 locally and have {s}.",
    "Could you tell me which model runs well in {s}?",
    "what to run with {s}",
    "I need a model that fits into {s}.",
    "How should I use {s}?",
    "{s}, which one?",
    "Only {s} here, what can I do?",
    "Which model do I choose for {s}?",
    "choose a model for {s}",
    "pick a model for {s}",
    "What runs in {s}?",
    "If I have {s}, what do you recommend?",
    "Which Gemma 4 can my machine with {s} run?",
    "my budget is {s}",
    "What would you run on {s}?",
    "Do {s} suffice for a good model?",
    "Which Gemma should I download for {s}?",
)
SIZE_FORMS = ("{n} GB", "{n}GB", "{n}gb", "{n} gigs", "{n} gb", "{n} GiB", "{n} gigabytes", "{n}G")
PLACE_FORMS: dict[str, tuple[str, ...]] = {
    "memory": ("{z}", "{z}", "{z} memory", "{z} of memory"),
    "vram": (
        "{z} of VRAM",
        "{z} VRAM",
        "{z} vram",
        "a {z} GPU",
        "a {z} graphics card",
        "{z} of video memory",
        "a card with {z}",
        "{z} GPU memory",
        "a {z} card",
        "{z} of graphics memory",
        "a GPU with {z} of VRAM",
    ),
    "ram": (
        "{z} of RAM",
        "{z} RAM",
        "{z} ram",
        "{z} of RAM and no GPU",
        "no GPU and {z}",
        "{z} RAM without a graphics card",
        "{z} system memory",
        "only a CPU and {z}",
        "{z} of main memory",
        "cpu only, {z}",
        "{z} DDR5",
        "a CPU with {z}",
    ),
    "mac": (
        "a Mac with {z}",
        "{z} of unified memory",
        "a MacBook with {z}",
        "{z} unified memory",
        "a {z} Mac",
        "a {z} MacBook",
        "Apple silicon with {z}",
        "a Mac mini with {z}",
        "a {z} MacBook Pro",
        "macOS and {z}",
        "a {z} MacBook Air",
    ),
}
FIT_CAPS = {"memory": 240, "vram": 150, "ram": 150, "mac": 190}


def size_forms(size: int, place: str) -> list[str]:
    """How people write a size of that kind of memory."""
    return list(fill(PLACE_FORMS[place], z=[form.format(n=size) for form in SIZE_FORMS]))


def fit_intents() -> Iterator[Intent]:
    """Fit by memory: every size and every kind of memory."""
    for place, cap in FIT_CAPS.items():
        for size in MAC_SIZES if place == "mac" else SIZES:
            forms = size_forms(size, place)
            first = f"Which model fits {forms[0]}?"
            yield Intent("fit", f"fit-{place}-{size}", fit_answer(place, size), (first, *fill(FIT_ASK, s=forms)), cap)


# --- fit by device ---

DEVICE_ASK = (
    "Which model fits {a} {d}?",
    "Which Gemma 4 runs on {a} {d}?",
    "What can I run on {a} {d}?",
    "best gemma for {d}",
    "{d}?",
    "{d}",
    "I have {a} {d}. Which model?",
    "I own {a} {d}, what should I run?",
    "Which model for {a} {d}?",
    "gemma 4 on {d}",
    "Which quant for {a} {d}?",
    "Can {a} {d} run Gemma 4?",
    "Is {a} {d} good enough for Gemma 4?",
    "recommend a model for {d}",
    "What do you recommend for {a} {d}?",
    "My machine has {a} {d}.",
    "What is the best local model for {a} {d}?",
    "my {d}",
    "Which Gemma should I choose with {a} {d}?",
    "what fits on my {d}",
    "Which model should I use with my {d}?",
    "model for my {d} please",
    "How well does Gemma 4 run on {a} {d}?",
    "Could you suggest a model for {a} {d}?",
    "what runs on {d}",
    "I just bought {a} {d}. What now?",
    "largest model for {a} {d}",
    "Does Gemma 4 fit my {d}?",
    "Tell me what to run on {a} {d}.",
    "Which Gemma 4 suits {a} {d}?",
    "will 12b run on {d}",
    "does 31B fit {a} {d}?",
)


def article(name: str) -> str:
    """`a` or `an`, by how the name is spoken."""
    return (
        "an"
        if name[0] in "AEIOaeio" or name.startswith(("RTX", "RX", "H1", "H2", "L4", "M1", "M2", "M3", "M4", "M5"))
        else "a"
    )


def device_answer(name: str, place: str, size: int, note: str) -> str:
    """The answer for a named device: what it has, then the rule for that memory."""
    pick = pick_for(place, size)
    has = f"The {name} has {PLACES[place].format(n=size)}."
    if pick.model is None:
        return f"{has} {fit_answer(place, size).split('. ', 1)[1]}"
    take = f"Take {pick.model.name} with the {pick.quant} file ({gb(pick.model.files[pick.quant])})."
    parts = (has, take, room_clause(pick, place, size), drafter_clause(pick), note or pick.other)
    return " ".join(part for part in parts if part)


def phone_answer(name: str, size: int) -> str:
    """Phones run the mobile builds of the two small models."""
    model = "E4B if you close other apps, or E2B to be safe" if size >= 12 else "E2B"
    return (
        f"The {name} has {size} GB of memory, shared with the system. Take Gemma 4 {model}. "
        "LiteRT-LM has mobile builds of both small models with the drafter inside the file; the E2B one has about 2.6 GB."
    )


def apple_devices() -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Apple chips with the memory sizes they were sold with, and how people name them."""
    for chip, amounts in data("devices.yaml")["apple"].items():
        for size in amounts:
            forms = (
                "{c} {n}GB",
                "{c} {n} GB",
                "{c} with {n} GB",
                "{c} Mac with {n} GB",
                "MacBook {c} {n}gb",
                "{c} ({n} GB)",
            )
            yield chip, size, tuple(form.format(c=chip, n=size) for form in forms)


def device_intents() -> Iterator[Intent]:
    """Fit by device."""
    for entry in data("devices.yaml")["devices"]:
        name, place, size = str(entry["name"]), str(entry["place"]), int(entry["gb"])
        names = (name, *map(str, entry.get("also", ())))
        phrasings = tuple(chain.from_iterable(fill(DEVICE_ASK, a=[article(n)], d=[n]) for n in names))
        text = (
            phone_answer(name, size)
            if place == "phone"
            else device_answer(name, place, size, str(entry.get("note", "")))
        )
        yield Intent("device", f"device-{name}", text, phrasings, 75)
    for chip, size, names in apple_devices():
        text = device_answer(f"{chip} with {size} GB", "mac", size, "").replace(
            f" has {size} GB of unified memory", " shares its memory between CPU and GPU"
        )
        yield Intent(
            "device",
            f"apple-{chip}-{size}",
            text,
            tuple(chain.from_iterable(fill(DEVICE_ASK, a=[article(n)], d=[n]) for n in names)),
            55,
        )


# --- use cases ---

USE_ASK = (
    "Which model is best for {u}?",
    "Which Gemma 4 should I use for {u}?",
    "best model for {u}",
    "What do you recommend for {u}?",
    "{u}?",
    "I want to use it for {u}.",
    "I need a model for {u}",
    "Which model for {u}?",
    "gemma for {u}",
    "good gemma for {u}",
    "Which Gemma is good at {u}?",
    "Can Gemma 4 do {u}?",
    "Is Gemma 4 good for {u}?",
    "recommend a model for {u}",
    "model for {u}",
    "My use case is {u}. Which model?",
    "What is the right model for {u}?",
    "suggest something for {u}",
    "which size for {u}",
    "How good is Gemma 4 at {u}?",
    "I am looking for a model for {u}.",
    "What should I run for {u}?",
    "use case: {u}",
    "Which of the models is strongest at {u}?",
    "what is the best gemma 4 for {u}",
    "For {u}, which model would you pick?",
)
USE_SIZE_ASK = (
    "Which model is best for {u} with {s}?",
    "best model for {u} on {s}",
    "Which Gemma 4 for {u} and {s}?",
    "{u} with {s}?",
    "I have {s} and want to use it for {u}.",
    "{u}, {s}",
    "{s}, {u}",
    "What do you recommend for {u} with {s}?",
    "Which model should I run for {u} if I have {s}?",
    "I need a model for {u} that fits {s}.",
    "gemma for {u} {s}",
    "With {s}, what is the best model for {u}?",
    "recommend a model for {u} on a machine with {s}",
    "model for {u} in {s}",
    "My computer has {s}; I do {u}. Which model?",
    "What fits {s} for {u}?",
    "Can I do {u} with {s}?",
    "good for {u} on {s}",
    "Is {s} enough for {u}?",
    "Which quant for {u} with {s}?",
)
USE_SIZES = (4, 6, 8, 10, 12, 16, 18, 20, 24, 32, 36, 40, 48, 64, 80, 96, 128)


def best_within(size: int, allowed: Sequence[str]) -> Pick:
    """The rule's pick for this size, or the largest allowed model below it."""
    pick = pick_for("memory", size)
    if pick.model is None or pick.model.id in allowed:
        return pick
    models = [m for m in FAMILY if m.id in allowed and FAMILY.index(m) <= FAMILY.index(pick.model)]
    return Pick(size, models[-1] if models else E2B, QAT, "32K" if size >= 6 else "8K", size >= 6)


def use_size_answer(name: str, case: Mapping[str, Any], size: int) -> str:
    """The pick for a use case within a memory size, with the benchmark that speaks for it."""
    pick = best_within(size, case.get("models", [m.id for m in FAMILY]))
    assert pick.model is not None
    lead = f"For {name} with {size} GB take {pick.model.name}, {pick.quant} file ({gb(pick.model.files[pick.quant])})."
    bench = case.get("benchmark")
    score = f"It scores {pick.model.scores[bench]} on {bench}." if bench else str(case.get("why", ""))
    ask = f"`advisor recommend --use-case {case['flag']}` checks it for your machine."
    return " ".join(part for part in (lead, score, drafter_clause(pick), ask) if part)


def use_case_intents() -> Iterator[Intent]:
    """Use cases, with and without a size."""
    for name, case in data("use_cases.yaml").items():
        words = [name, *case["also"]]
        yield Intent("use-case", f"use-{name}", str(case["answer"]), tuple(fill(USE_ASK, u=words)), 160)
        for size in USE_SIZES:
            forms = [form.format(n=size) for form in ("{n} GB", "{n}GB", "{n} gb ram", "{n} gigs", "{n} GB of memory")]
            phrasings = tuple(fill(USE_SIZE_ASK, u=words, s=forms))
            yield Intent("use-case", f"use-{name}-{size}", use_size_answer(name, case, size), phrasings, 45)


# --- facts of each model ---


def yes_no(value: bool) -> str:
    """A sentence opener."""
    return "Yes" if value else "No"


def memory_answer(model: Gemma) -> str:
    """How much memory one model needs."""
    short, long = (model.files[QAT] + kv_gb(model, c) + OVERHEAD for c in ("8K", "32K"))
    return (
        f"{model.name} needs about {gb(short)} with the QAT 4-bit file ({gb(model.files[QAT])}) at 8K context, and about "
        f"{gb(long)} at 32K. Its drafter adds about {gb(DRAFTER_EXTRA[model.id])}. With Q8_0 the file alone has {gb(model.files['Q8_0'])}."
    )


def architecture_answer(model: Gemma) -> str:
    """Layers and widths."""
    kind = "a mixture of 128 experts, 8 used per token" if model.id == "26b" else "a dense model"
    extra = " and per-layer embeddings" if model.table else ""
    return f"{model.name} is {kind}{extra}. It has {model.layers} layers, a hidden size of {model.hidden} and {model.heads} attention heads."


def good_for(model: Gemma) -> str:
    """What the model is for."""
    return {
        "e2b": "Gemma 4 E2B is for phones, a Raspberry Pi and machines with 4 to 6 GB. It is the smallest and fastest, understands images and audio, but is the weakest at reasoning and code.",
        "e4b": "Gemma 4 E4B is for laptops with 6 to 8 GB. It is clearly better than E2B, understands images and audio, and is still fast on a CPU.",
        "12b": "Gemma 4 12B is the natural choice for 8 to 16 GB. It reasons and codes far better than E4B, understands images and audio, and gains much from its drafter.",
        "26b": "Gemma 4 26B-A4B is for 24 GB cards and for fast CPUs with 32 GB of RAM. It is nearly as good as 31B and much faster, because only 3.8 billion parameters are active per token. It has no audio.",
        "31b": "Gemma 4 31B is the best of the family, for 24 GB cards at short context and better for 32 GB or more. It leads in reasoning, code, agents and long context. It has no audio.",
    }[model.id]


def fact_answers(model: Gemma) -> dict[str, str]:
    """One answer per attribute of `facts` in questions.yaml."""
    n, f = model.name, model.files
    known = ", ".join(f"{kv_text(model, c)} at {c}" for c in model.kv)
    score = model.scores
    return {
        "parameters": f"{n} has {model.params}.",
        "layers": architecture_answer(model),
        "context": f"{n} has a context length of {model.context} tokens. Its sliding layers look back {model.window} tokens; the global layers see everything.",
        "modalities": f"{n} reads text and images"
        + (" and audio" if model.audio else "")
        + "; it writes text. Video works as a row of frames."
        + ("" if model.audio else " It has no audio input."),
        "audio": f"Yes, {n} understands speech of up to 30 seconds."
        if model.audio
        else f"No, {n} has no audio input. Use 12B, E4B or E2B for audio; 12B is the best of them.",
        "vision": f"Yes, {n} reads images and scores {score['MMMU-Pro']} on MMMU-Pro. In llama.cpp you also need its mmproj file.",
        "licence": f"{n} is under the Apache 2.0 licence, so you may use it commercially.",
        "size": f"{n} has {gb(f[QAT])} as QAT 4-bit, {gb(f['Q4_K_M'])} as Q4_K_M, {gb(f['Q8_0'])} as Q8_0 and {gb(f['BF16'])} as BF16 (Unsloth files).",
        "q4": f"The QAT 4-bit file of {n} has {gb(f[QAT])}; the plain Q4_K_M file has {gb(f['Q4_K_M'])}. Prefer QAT.",
        "q8": f"The Q8_0 file of {n} has {gb(f['Q8_0'])}.",
        "bf16": f"The BF16 file of {n} has {gb(f['BF16'])}. It is the full precision; Q8_0 with {gb(f['Q8_0'])} is almost as good.",
        "kv": f"The KV cache of {n} at f16 takes about {known}. With q8_0 it takes about half.",
        "memory": memory_answer(model),
        "drafter": f"The drafter of {n} has {model.drafter_params} parameters; its QAT file has {model.drafter_mb} MB. Start with {model.draft} draft tokens.",
        "draft tokens": f"Start {n} with {model.draft} draft tokens"
        + (" and try 4 for code" if model.draft == 3 else "; more rarely pays")
        + ". `advisor trial` measures the best number on your machine.",
        "sampling": f"Google recommends temperature 1.0, top_p 0.95 and top_k 64 for {n}. All Gemma 4 models use the same values.",
        "released": f"{n} was released on {model.released}."
        if model.id != "12b"
        else "Gemma 4 12B was released in early June 2026, two months after the other sizes.",
        "coding": f"{n} scores {score['LiveCodeBench v6']} on LiveCodeBench v6. The order for code is 31B, 26B, 12B, E4B, E2B.",
        "reasoning": f"{n} scores {score['GPQA Diamond']} on GPQA Diamond and {score['AIME 2026']} on AIME 2026. The order for reasoning is 31B, 26B, 12B, E4B, E2B.",
        "agents": f"{n} scores {score['Tau2']} on Tau2, the agent benchmark. 31B leads with 76.9, then 12B with 69.0 and 26B with 68.2.",
        "benchmarks": f"{n}: MMLU-Pro {score['MMLU-Pro']}, GPQA Diamond {score['GPQA Diamond']}, AIME 2026 {score['AIME 2026']}, LiveCodeBench {score['LiveCodeBench v6']}, MMMU-Pro {score['MMMU-Pro']}.",
        "mmlu": f"{n} scores {score['MMLU-Pro']} on MMLU-Pro.",
        "long context": f"{n} scores {score['MRCR 128K']} on MRCR at 128K tokens. 31B is far ahead with 66.4.",
        "good for": good_for(model),
        "read": f"{n} reads about {model.read} parameters for each token, so that number and the memory bandwidth set its speed.",
        "run": f'Type `advisor launch {model.id}` to fetch and start {n}, or `advisor run {model.id} "your question"` for one answer.',
        "ollama": f"Type `ollama run gemma4:{model.id}`. For the QAT file use the tag `gemma4:{'26b-a4b' if model.id == '26b' else model.id}-it-qat`.",
        "repo": f"The file is in the Hub repository `unsloth/gemma-4-{'26B-A4B' if model.id == '26b' else model.short}-it-qat-GGUF`; its drafter is in the same place.",
        "thinking": f"Yes, {n} can think before it answers. Put `<|think|>` at the start of the system prompt to switch thinking on.",
        "tools": f"Yes, {n} supports tool calls and a system role. For agents prefer 31B, then 12B or 26B.",
        "moe": "Yes, Gemma 4 26B-A4B is a mixture of experts: 128 experts, 8 of them used for each token, 3.8 billion parameters active."
        if model.id == "26b"
        else f"No, {n} is a dense model. Only 26B-A4B is a mixture of experts.",
        "window": f"The sliding window of {n} has {model.window} tokens; most layers see only that much, which keeps the KV cache small.",
        "vocab": f"{n} has a vocabulary of 262,144 tokens, like all Gemma 4 models.",
    }


def fact_intents() -> Iterator[Intent]:
    """Facts of each model."""
    asks: Mapping[str, Sequence[str]] = data("questions.yaml")["facts"]
    for model in FAMILY:
        answers = fact_answers(model)
        for attribute, templates in asks.items():
            phrasings = tuple(fill(templates, m=ALIASES[model.id]))
            yield Intent("facts", f"fact-{model.id}-{attribute}", answers[attribute], phrasings, 45)


# --- can this model run on that memory? ---

CAN_ASK = (
    "Can {m} run on {s}?",
    "Does {m} fit {s}?",
    "does {m} fit in {s}",
    "Can I run {m} with {s}?",
    "Is {s} enough for {m}?",
    "{m} on {s}?",
    "{m} {s}",
    "Will {m} work with {s}?",
    "I have {s}; can I use {m}?",
    "{m} with {s}, possible?",
    "Do I need more than {s} for {m}?",
    "would {m} fit into {s}?",
    "Is {m} too big for {s}?",
)
CAN_SIZES = (4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)


def can_answer(model: Gemma, size: int) -> str:
    """Whether one model fits one size, by its 4-bit file at 8K context."""
    need = model.files[QAT] + kv_gb(model, "8K") + OVERHEAD
    base = f"{model.name} needs about {gb(need)} with the QAT 4-bit file ({gb(model.files[QAT])}) at 8K context"
    if need > size + 0.5:
        better = pick_for("memory", size).model
        return (
            f"No, not well: {base}, more than {size} GB. Take {better.name if better else 'a larger machine'} instead."
        )
    if need > size - 1:
        return f"Just barely: {base}, and you have {size} GB. Keep the context short and close other programs."
    return f"Yes: {base}, and you have {size} GB, so about {gb(size - need)} stay free."


def can_intents() -> Iterator[Intent]:
    """One model, one size: yes or no."""
    for model, size in product(FAMILY, CAN_SIZES):
        forms = [form.format(n=size) for form in ("{n} GB", "{n}GB", "{n} gb", "{n} gigs", "{n} GB of memory")]
        yield Intent(
            "fit",
            f"can-{model.id}-{size}",
            can_answer(model, size),
            tuple(fill(CAN_ASK, m=ALIASES[model.id], s=forms)),
            55,
        )


# --- comparisons ---

SPEED_ORDER = ("e2b", "26b", "e4b", "12b", "31b")


def compare_answer(small: Gemma, large: Gemma) -> str:
    """What the larger model gives and costs."""
    return (
        f"{large.name} is better: LiveCodeBench {large.scores['LiveCodeBench v6']} against {small.scores['LiveCodeBench v6']}, "
        f"MMLU-Pro {large.scores['MMLU-Pro']} against {small.scores['MMLU-Pro']}. {small.name} is smaller: "
        f"{gb(small.files[QAT])} against {gb(large.files[QAT])} as QAT 4-bit. {faster_clause(small, large)}"
    )


def faster_clause(one: Gemma, two: Gemma) -> str:
    """Which of two is faster, by the parameters read per token."""
    first, second = sorted((one, two), key=lambda m: SPEED_ORDER.index(m.id))
    if {one.id, two.id} == {"e4b", "26b"}:
        return "Both read about as much per token, so their speed is similar where both fit."
    return f"{first.name} is faster: it reads {first.read} parameters per token, {second.name} reads {second.read}."


def compare_intents() -> Iterator[Intent]:
    """Every pair of models, by quality, speed, size and use."""
    asks: Mapping[str, Sequence[str]] = data("questions.yaml")["compare"]
    for small, large in combinations(FAMILY, 2):
        both = permutations((small, large))
        pairs = [(a, b) for x, y in both for a in ALIASES[x.id][:5] for b in ALIASES[y.id][:5]]
        bench = "LiveCodeBench v6"
        answers = {
            "general": compare_answer(small, large),
            "speed": faster_clause(small, large),
            "size": f"{small.name} has {gb(small.files[QAT])} and {large.name} has {gb(large.files[QAT])} as QAT 4-bit files. At 8K context they need about {gb(small.files[QAT] + kv_gb(small, '8K') + OVERHEAD)} and {gb(large.files[QAT] + kv_gb(large, '8K') + OVERHEAD)}.",
            "coding": f"{large.name} is better at code: {large.scores[bench]} on LiveCodeBench v6 against {small.scores[bench]} for {small.name}.",
            "agents": agents_answer(small, large),
        }
        for aspect, templates in asks.items():
            phrasings = tuple(t.format(a=a, b=b) for t in templates for a, b in pairs)
            yield Intent(
                "compare",
                f"compare-{small.id}-{large.id}-{aspect}",
                answers[aspect],
                phrasings,
                100 if aspect == "general" else 55,
            )


def agents_answer(one: Gemma, two: Gemma) -> str:
    """Tau2 decides; 12B is slightly ahead of 26B there."""
    best, rest = sorted((one, two), key=lambda m: -float(m.scores["Tau2"]))
    return f"{best.name} is better for agents: {best.scores['Tau2']} on Tau2 against {rest.scores['Tau2']} for {rest.name}."


# --- written questions ---


def data(name: str) -> Any:
    """One of the YAML files beside this one."""
    with (HERE / name).open(encoding="utf-8") as file:
        return yaml.safe_load(file)


def written_intents() -> Iterator[Intent]:
    """The questions that were written out: drafters, commands, concepts, trouble, small talk."""
    source = data("questions.yaml")
    forms: Mapping[str, Sequence[str]] = source["forms"]
    for kind, entries in source["answers"].items():
        for number, entry in enumerate(entries):
            topics = [str(topic) for topic in entry.get("topics", ())]
            generic = fill(forms[entry.get("form", "what")], t=topics) if topics else ()
            phrasings = tuple(chain(entry.get("ask", ()), generic))
            cap = int(entry.get("cap", min(110, 12 * len(phrasings))))
            yield Intent(kind, f"{kind}-{number}", str(entry["answer"]).strip(), phrasings, cap)


# --- Python ---

NAME_ASK = (
    "What does {x} do?",
    "what does `{x}` do in Python?",
    "What is {x} in Python?",
    "explain {x}",
    "python {x}",
    "{x}",
    "{x}?",
    "How does {x} work?",
    "How do I use {x}?",
    "What is {x} for?",
    "What does {x} do in Python?",
    "tell me about {x} in python",
    "when do I use {x}?",
    "Explain `{x}` in Python.",
    "What is the use of {x}?",
    "meaning of {x} in python",
    "python: {x}",
    "Can you explain {x}?",
    "what's {x}",
    "I do not understand {x}.",
    "Describe {x}.",
    "Python's {x}, what is it?",
)


def name_intents() -> Iterator[Intent]:
    """What does a built-in, keyword, method or library function do."""
    for group, entries in data("python.yaml")["names"].items():
        for name, meaning in entries.items():
            names = [str(name)]
            if group in ("builtins", "functions", "methods"):
                names.append(f"{name}()")
            if group == "methods":
                names.append(f"the {str(name).split('.')[1]} method of {str(name).split('.')[0]}")
            if group == "keywords":
                names = [f"the keyword {name}", f"the {name} keyword", f"the {name} statement", f"`{name}`"]
            if group == "errors":
                names += [f"a {name}", f"the error {name}"]
            yield Intent("python", f"name-{name}", str(meaning), tuple(fill(NAME_ASK, x=names)), 30)


TASK_ASK = (
    "Write a Python function that {t}.",
    "write a python function that {t}",
    "Write a function that {t}.",
    "Python function that {t}",
    "Can you write a Python function that {t}?",
    "I need a Python function that {t}.",
    "Give me a function that {t}",
    "Please write a function in Python that {t}.",
    "code a function that {t}",
    "Show me a Python function that {t}.",
    "How do I write a function that {t}?",
    "Could you write me a function which {t}?",
    "python code that {t}",
    "Write Python code that {t}.",
    "def that {t}",
    "make a python function which {t}",
    "Write a small function that {t}.",
    "function that {t} in python",
    "Write a short Python function which {t}.",
    "I want a function that {t}, in Python.",
)
NAMED_ASK = (
    "Write a Python function called {n} that {t}.",
    "write a function named {n} that {t}",
    "Write a function {n} that {t}.",
    "Please write a Python function named {n} which {t}.",
    "I need a function called {n} that {t}",
    "python function {n} that {t}",
)
OTHER_NAMES = (
    "solve",
    "helper",
    "compute",
    "my_function",
    "run",
    "f",
    "process",
    "work",
    "answer",
    "task",
    "foo",
    "func",
    "do_it",
)


def code_block(code: str) -> str:
    """Python in a fence."""
    return f"```python\n{code.strip()}\n```"


def task_intents() -> Iterator[Intent]:
    """Write a function: under its own name, and under a name that the question gives."""
    for task in data("python.yaml")["tasks"]:
        numbers = task.get("numbers", [""])
        for number in numbers:
            asks = [str(text).replace("<N>", str(number)) for text in task["ask"]]
            code = str(task["code"]).replace("<N>", str(number))
            own = code.split("def ", 1)[1].split("(", 1)[0]
            cap = 45 if len(numbers) == 1 else 14
            yield Intent("code", f"task-{own}-{number}", code_block(code), tuple(fill(TASK_ASK, t=asks)), cap)
            for name in shuffled([n for n in OTHER_NAMES if n != own], f"{own}{number}")[
                : 3 if len(numbers) == 1 else 1
            ]:
                renamed = code_block(code.replace(f"{own}(", f"{name}("))
                yield Intent(
                    "code", f"task-{own}-{number}-{name}", renamed, tuple(fill(NAMED_ASK, n=[name], t=asks)), 7
                )


# --- off topic ---

OFF_TOPIC = "I am a small demo model that knows about choosing and running Gemma 4 and a little Python; please ask me about those."


def offtopic_intents() -> Iterator[Intent]:
    """Everything else: one kind answer for very many questions."""
    source = data("offtopic.yaml")
    slots: Mapping[str, Sequence[str]] = {k: [str(v) for v in values] for k, values in source["slots"].items()}
    for number, template in enumerate(source["templates"]):
        phrasings = tuple(fill([template], **slots))
        yield Intent("offtopic", f"off-{number}", OFF_TOPIC, phrasings, min(90, 4 * len(phrasings)))
    for number, text in enumerate(source["single"]):
        yield Intent("offtopic", f"off-single-{number}", OFF_TOPIC, (str(text),), 6)


# --- all of it ---


def intents() -> Iterator[Intent]:
    """Every intent, the written ones first: where two share a question, the earlier one keeps it."""
    yield from written_intents()
    yield from fit_intents()
    yield from device_intents()
    yield from fact_intents()
    yield from compare_intents()
    yield from use_case_intents()
    yield from can_intents()
    yield from name_intents()
    yield from task_intents()
    yield from offtopic_intents()


def bare(question: str) -> str:
    """The question without case, spaces and end marks: what must not have two answers."""
    return "".join(question.lower().split()).rstrip("?!.")


def examples() -> Iterator[Example]:
    """All questions with their answers, without duplicates and without contradictions."""
    seen: set[str] = set()
    owner: dict[str, str] = {}
    for intent in intents():
        for question in questions_of(intent):
            if question in seen or owner.setdefault(bare(question), intent.answer) != intent.answer:
                continue
            seen.add(question)
            yield Example(intent.kind, question, intent.answer, split_of(question))


# --- documents ---

SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "ensurepip", "turtledemo", "__pycache__", "_pyrepl"}
)
SOURCE_LINES = 160


def documents() -> Iterator[Document]:
    """Documentation and short documented code of the standard library, and the language topics (PSF licence).

    The files are parsed and never imported. The text depends on the version of Python that runs this.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if SKIPPED.intersection(parts) or parts[0].startswith("config-") or "_sysconfigdata" in path.name:
            continue
        name = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
        yield from topic_documents(path) if name == "pydoc_data.topics" else module_documents(path, name)


def parsed(path: Path) -> tuple[str, ast.Module] | None:
    """Source and tree of a file, or nothing where it is not Python of this version."""
    try:
        source = path.read_text(encoding="utf-8")
        return source, ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return None


def topic_documents(path: Path) -> Iterator[Document]:
    """The help topics: a dictionary of name and text."""
    pair = parsed(path)
    for node in ast.walk(pair[1]) if pair else ():
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(value, ast.Constant):
                    topic, text = f"topic.{key.value}", str(ast.literal_eval(value)).strip()
                    yield Document(topic, text, split_of(topic))


def module_documents(path: Path, name: str) -> Iterator[Document]:
    """One document per module: its docstring, then each documented class and function, short ones with their code."""
    pair = parsed(path)
    if pair is None:
        return
    source, tree = pair
    lines = source.splitlines()
    parts = [f"Module {name}", ast.get_docstring(tree) or ""]
    parts += [text for node in tree.body for text in described(node, lines, name)]
    text = "\n\n".join(part for part in parts if part)
    if len(parts) > 2 or parts[1]:
        yield Document(name, text, split_of(name))


def described(node: ast.stmt, lines: Sequence[str], owner: str) -> Iterator[str]:
    """The code of a short documented function or class, or its signature and docstring where it is long."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    doc = ast.get_docstring(node)
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if doc and length <= SOURCE_LINES:
        yield "\n".join(lines[node.lineno - 1 : node.end_lineno])
        return
    if doc:
        yield f"{lines[node.lineno - 1].strip()}\n    {doc}"
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            yield from described(inner, lines, f"{owner}.{node.name}")


# --- reading it ---


def main() -> None:
    """Print counts, characters per kind and thirty pairs."""
    pairs, texts = list(examples()), list(documents())
    count, characters = Counter(e.kind for e in pairs), Counter[str]()
    for example in pairs:
        characters[example.kind] += len(example.question) + len(example.answer)
    for kind, number in count.most_common():
        print(f"{kind:10} {number:7,} questions {characters[kind]:12,} characters")
    tests = sum(e.split == "test" for e in pairs)
    print(f"{'all':10} {len(pairs):7,} questions {characters.total():12,} characters, {tests:,} for test")
    print(f"documents  {len(texts):7,} texts     {sum(len(d.text) for d in texts):12,} characters")
    salt = sys.argv[1] if len(sys.argv) > 1 else ""
    for example in sorted(pairs, key=lambda e: stable(salt + e.question))[:30]:
        print(f"\n[{example.kind}] {example.question}\n  {example.answer}")


if __name__ == "__main__":
    main()
