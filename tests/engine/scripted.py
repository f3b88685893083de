"""A service whose engine says what a test wrote down: for answers that no small model can give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette

from backends.native.engine import Round
from backends.native.prompt import Prompt
from backends.native.routes import application
from backends.native.service import Service
from tests.engine.gemma_template import TEMPLATE

END = 0
CONTEXT = 100_000


class Model:
    """Tokens are characters of prompts; token n > 0 of an answer is its n-th piece."""

    size = 1 << 20
    path = Path("test.gguf")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def chat_template(self) -> str:
        return TEMPLATE

    def special(self, name: str) -> str:
        return f"<{name}>"

    def marks(self) -> list[str]:
        return ["<|turn>", "<turn|>"]

    def tokenize(self, text: str, *, special: bool, begin: bool) -> list[int]:
        return list(map(ord, text))

    def piece(self, token: int) -> bytes:
        return b"" if token == END else self.pieces[token - 1]


class Engine:
    """Answers with `pieces`, whatever the prompt; `prompts` are those it was given.

    `pause`: seconds before each piece.
    """

    end = frozenset({END})
    has_drafter = False

    def __init__(self, pieces: Sequence[bytes], pause: float = 0) -> None:
        self.prompts: list[str] = []
        self.pause = pause
        self.target = SimpleNamespace(model=Model(), context=SimpleNamespace(tokens=CONTEXT), cached=0)
        self.target.model.pieces = list(pieces)

    def generate(
        self, prompt: Sequence[int], *, stopped: Callable[[], bool] = lambda: False, **_: Any
    ) -> Iterator[Round]:
        self.prompts.append("".join(map(chr, prompt)))
        for token in [*range(1, len(self.target.model.pieces) + 1), END]:
            time.sleep(self.pause)
            if stopped():
                return
            yield Round((token,), 0, 0)


def service(text: str | Sequence[str], *, size: int = 3, pause: float = 0, **options: Any) -> Service:
    """A service that answers `text`, cut into pieces of `size` bytes."""
    data = text.encode() if isinstance(text, str) else b""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    made = Service("gemma", 0, **options)
    made.engine = Engine(pieces or [piece.encode() for piece in text], pause)  # type: ignore[assignment]
    made.prompt = Prompt(made.engine.target.model)
    return made


def app(text: str | Sequence[str], **options: Any) -> Starlette:
    return application(service(text, **options))
