"""What the server needs of whatever computes behind it: the engine on llama.cpp, and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from backends.native.engine import Round
from backends.native.sampling import Sampling


class Vocabulary(Protocol):
    """Texts to tokens and back; as `backends.native.library.Model`."""

    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def chat_template(self) -> str | None: ...
    def special(self, name: str) -> str: ...
    def marks(self) -> list[str]: ...
    def tokenize(self, text: str, *, special: bool, begin: bool) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...


class Context(Protocol):
    @property
    def tokens(self) -> int: ...


class Target(Protocol):
    """`cached`: tokens of the last prompt that had not to be read again."""

    @property
    def model(self) -> Vocabulary: ...
    @property
    def context(self) -> Context: ...
    @property
    def cached(self) -> int: ...


class Decoder(Protocol):
    """Answers one prompt at a time, in rounds; as `backends.native.engine.Engine`."""

    @property
    def target(self) -> Target: ...
    @property
    def end(self) -> frozenset[int]: ...
    @property
    def has_drafter(self) -> bool: ...
    def warm(self, draft_tokens: int) -> None: ...
    def generate(
        self,
        prompt: Sequence[int],
        *,
        draft_tokens: int = 0,
        max_tokens: int | None = None,
        stopped: Callable[[], bool] = ...,
        reuse: bool = False,
        sampling: Sampling = ...,
    ) -> Iterator[Round]: ...
