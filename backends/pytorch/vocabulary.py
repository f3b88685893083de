"""A checkpoint's tokenizer, as the server asks for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from backends.native.library import VISIBLE

BYTE = re.compile(r"<0x(?P<value>[0-9A-F]{2})>")
SPACE = "\u2581"
"""How Gemma's vocabulary writes a space."""


class Vocabulary:
    """Texts to tokens and back.

    Args:
        tokenizer: as Transformers loads it.
        path: of the checkpoint.
        size: tokens that the model scores.
    """

    def __init__(self, tokenizer: Any, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._tokenizer, self._words = tokenizer, tokenizer.backend_tokenizer
        added = self._words.get_added_tokens_decoder()
        self._added = {number: token.content for number, token in added.items()}
        self._unseen = {number for number, token in added.items() if token.special and token.content not in VISIBLE}
        self._first = tokenizer.bos_token_id

    def chat_template(self) -> str | None:
        """The template for conversations; None where there is none, or only others."""
        found = self._tokenizer.chat_template
        return found.get("default") if isinstance(found, dict) else found

    def special(self, name: str) -> str:
        """The text of the `bos` or `eos` token."""
        return str(getattr(self._tokenizer, f"{name}_token") or "")

    def marks(self) -> list[str]:
        """Spellings of the tokens that give a text its form: what a stranger writes must not become one of them."""
        return [
            text
            for number, text in self._added.items()
            if number in self._unseen or text.startswith("<|") or text.endswith("|>")
        ]

    def tokenize(self, text: str, *, special: bool, begin: bool) -> list[int]:
        """Tokens of `text`. `special`: spellings like `<|turn>` are tokens; `begin`: put the first token before."""
        # Halves of characters cannot be said to the tokenizer.
        plain = text.encode("utf-8", errors="replace").decode()
        self._words.encode_special_tokens = not special
        tokens: list[int] = self._words.encode(plain, add_special_tokens=False).ids
        return [self._first, *tokens] if begin and self._first is not None else tokens

    def piece(self, token: int) -> bytes:
        """The bytes of one generated token; those that give a text its form have none, but for some marks."""
        if token in self._unseen:
            return b""
        text = self._words.id_to_token(token) or ""
        if found := BYTE.fullmatch(text):
            return bytes([int(found["value"], 16)])
        return text.encode() if token in self._added else text.replace(SPACE, " ").encode()
