"""What a trial asks: the prompt set of `profiles/prompts.yaml`, short and behind a long text."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Annotated

import msgspec

from advisor.knowledge.catalog import convert
from advisor.knowledge.documents import read
from advisor.knowledge.profile import Text
from advisor.machine import Record

BYTES_PER_TOKEN = 4.5
"""Of English prose, roughly, where nothing was asked yet."""
DEPTH = "depth"

Turns = Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]


class Kind(Record, frozen=True, kw_only=True):
    """One kind of work. `prompts`: each a list of turns, the user's first and last."""

    kind: Text
    answer_tokens: Annotated[int, msgspec.Meta(ge=1)]
    prompts: Annotated[tuple[Turns, ...], msgspec.Meta(min_length=1)]


class PromptSet(Record, frozen=True, kw_only=True):
    """`background`: paragraphs that come before a prompt which is asked at depth."""

    kinds: Annotated[tuple[Kind, ...], msgspec.Meta(min_length=1)]
    background: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]


class Prompt(Record, frozen=True, kw_only=True):
    """What is asked. `cell`: its kind, and whether it is deep. `answer_tokens`: of a usual answer of this kind."""

    kind: str
    deep: bool
    answer_tokens: int
    messages: tuple[dict[str, str], ...]

    @property
    def size(self) -> int:
        """Characters."""
        return sum(len(turn["content"]) for turn in self.messages)

    @property
    def cell(self) -> str:
        return f"{self.kind} at {DEPTH}" if self.deep else self.kind


@functools.cache
def prompt_set() -> PromptSet:
    """Raises: ProfileError: naming what is wrong in the file."""
    where = "profiles/prompts.yaml"
    return convert(read(files("profiles") / "prompts.yaml", where), PromptSet, where)


def prompts(kind: Kind, *, depth_tokens: int = 0, bytes_per_token: float = BYTES_PER_TOKEN) -> tuple[Prompt, ...]:
    """The prompts of a kind; with `depth_tokens`, behind about so many tokens of a text, which is the same for all
    kinds: a server that keeps what it has read reads it once."""
    before = background(depth_tokens, bytes_per_token)
    return tuple(
        Prompt(
            kind=kind.kind,
            deep=bool(depth_tokens),
            answer_tokens=kind.answer_tokens,
            messages=tuple(
                {"role": "assistant" if place % 2 else "user", "content": f"{before}{turn}" if not place else turn}
                for place, turn in enumerate(turns)
            ),
        )
        for turns in kind.prompts
    )


def background(depth_tokens: int, bytes_per_token: float = BYTES_PER_TOKEN) -> str:
    """About so many tokens of text, in numbered parts; empty for none."""
    parts: list[str] = []
    size = depth_tokens * bytes_per_token
    paragraphs = prompt_set().background
    while sum(map(len, parts)) < size:
        parts.append(f"Part {len(parts) + 1}. {paragraphs[len(parts) % len(paragraphs)]}\n\n")
    return "".join(parts)
