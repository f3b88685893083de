"""From the corpus to token ids: the tokenizer, the chat format, and the packing into rows.

The tokenizer is a byte-pair encoding with byte fallback, stored as llama.cpp's `gemma4` tokenizer reads it: spaces are
written as U+2581, text is cut at line breaks only, and runs of line breaks are tokens of their own. Merges are learned
inside words, numbers digit by digit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from profiles.demo.corpus import Example, documents, examples

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
BREAKS = tuple("\n" * count for count in range(1, 5))
WORDS = Regex(r"\n+|▁?[A-Za-z]+|▁+|\d|[^\sA-Za-z\d▁]")
LINES = Regex(r"\n+")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Rows:
    """Packed text: all [N, T]. `weight` 0..100: how much a position counts as something to predict."""

    tokens: np.ndarray
    document: np.ndarray
    position: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Sequence:
    """One document or conversation: ids and weights of the same length."""

    tokens: np.ndarray
    weight: np.ndarray


def learn(vocab: int) -> Tokenizer:
    """Learn the merges from the training half of the corpus."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORDS, "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(BYTES), special_tokens=[*SPECIAL, *BREAKS], limit_alphabet=160, show_progress=False
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return with_bytes(tokenizer)


def with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Insert the byte tokens after the special ones, and cut at line breaks only, as llama.cpp does."""
    state = json.loads(tokenizer.to_str())
    ordered = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    names = [*SPECIAL, *BREAKS, *BYTES, *(name for name in ordered if name not in {*SPECIAL, *BREAKS})]
    state["model"]["vocab"] = {name: index for index, name in enumerate(names)}
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    for token in state["added_tokens"]:
        token["id"] = state["model"]["vocab"][token["content"]]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(LINES, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def training_text() -> Iterator[str]:
    """Questions and answers twice, the documents once."""
    for example in examples():
        if example.split == "train":
            yield f"{example.question}\n{example.answer}"
            yield example.answer
    for document in documents():
        if document.split == "train":
            yield document.text


def chunk(name: str, kind: int) -> int:
    """A stable number for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % kind


class Writer:
    """Turns text into sequences."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.bos = tokenizer.token_to_id("<bos>")
        self.eos = tokenizer.token_to_id("<eos>")

    def ids(self, text: str) -> list[int]:
        """The ids of text, markers included."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def conversation(self, turns: Iterable[Example]) -> Sequence:
        """Turns of a chat. Questions count little: nobody needs the model to ask."""
        tokens, weight = [self.bos], [0]
        for turn in turns:
            asked = self.ids(f"<|turn>user\n{turn.question.strip()}<turn|>\n<|turn>model\n")
            answered = self.ids(f"{turn.answer.strip()}<turn|>")
            after = self.ids("\n")
            tokens += asked + answered + after
            weight += [5] * len(asked) + [100] * len(answered) + [0] * len(after)
        return Sequence(np.array(tokens, np.uint16), np.array(weight, np.uint8))

    def prompt(self, question: str) -> list[int]:
        """The ids of a question, up to where the model answers."""
        return [self.bos, *self.ids(f"<|turn>user\n{question.strip()}<turn|>\n<|turn>model\n")]

    def document(self, text: str, limit: int) -> Iterator[Sequence]:
        """A document in pieces of at most `limit` tokens."""
        ids = self.ids(text)
        for start in range(0, len(ids), limit - 2):
            tokens = [self.bos, *ids[start : start + limit - 2]]
            if start + limit - 2 >= len(ids):
                tokens.append(self.eos)
            if len(tokens) > 16:
                yield Sequence(np.array(tokens, np.uint16), np.array([0] + [60] * (len(tokens) - 1), np.uint8))


def sequences(tokenizer: Tokenizer, split: str, limit: int) -> list[Sequence]:
    """All sequences of a split: each question alone, a third of them also in conversations of two or three turns."""
    writer = Writer(tokenizer)
    found = [example for example in examples() if example.split == split]
    result = [writer.conversation([example]) for example in found]
    mixed = sorted(found, key=lambda example: chunk(example.question, 1 << 32))
    for start in range(0, len(mixed) // 3, 3):
        turns = mixed[start : start + 2 + start // 3 % 2]
        result.append(writer.conversation(turns))
    for document in documents():
        if document.split == split:
            result += writer.document(document.text, limit)
    return result


def pack(items: list[Sequence], length: int, random: np.random.Generator) -> Rows:
    """Fill rows of `length` with whole sequences in random order; what does not fit at a row's end is cut."""
    order = random.permutation(len(items))
    rows: list[list[Sequence]] = [[]]
    room = length
    for index in order:
        if room < 32:
            rows.append([])
            room = length
        rows[-1].append(items[index])
        room -= len(items[index].tokens)
    tokens = np.zeros((len(rows), length), np.int32)
    document = np.full((len(rows), length), -1, np.int32)
    position = np.tile(np.arange(length, dtype=np.int32), (len(rows), 1))
    weight = np.zeros((len(rows), length), np.uint8)
    for row, parts in enumerate(rows):
        at = 0
        for number, part in enumerate(parts):
            n = min(len(part.tokens), length - at)
            tokens[row, at : at + n] = part.tokens[:n]
            weight[row, at : at + n] = part.weight[:n]
            document[row, at : at + n] = number
            position[row, at : at + n] = np.arange(n)
            at += n
    return Rows(tokens, document, position, weight)


def save(folder: Path, vocab: int, limit: int) -> None:
    """Write tokenizer.json and the sequences of both splits to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = learn(vocab)
    tokenizer.save(str(folder / "tokenizer.json"))
    for split in ("train", "test"):
        items = sequences(tokenizer, split, limit)
        store(folder, split, items)


def store(folder: Path, split: str, items: list[Sequence]) -> None:
    """Write sequences to `folder`."""
    np.savez_compressed(
        folder / f"{split}.npz",
        tokens=np.concatenate([item.tokens for item in items]),
        weight=np.concatenate([item.weight for item in items]),
        length=np.array([len(item.tokens) for item in items], np.int32),
    )
    print(f"{split}: {len(items):,} sequences, {sum(len(item.tokens) for item in items):,} tokens")


def read(folder: Path, split: str) -> list[Sequence]:
    """The sequences that `store` wrote."""
    stored = np.load(folder / f"{split}.npz")
    ends = np.cumsum(stored["length"])[:-1]
    parts = zip(np.split(stored["tokens"], ends), np.split(stored["weight"], ends), strict=True)
    return [Sequence(tokens, weight) for tokens, weight in parts]
