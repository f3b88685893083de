"""Pictures and sounds beside a question: files as the parts of a message in OpenAI's chat API."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor.errors import UsageError
from advisor.units import format_file_size

Content = str | list[dict[str, Any]]
"""Of a message: a text, or parts."""

LARGEST = 32 << 20
PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
SOUNDS = {b"ID3": "mp3", b"\xff\xfb": "mp3", b"\xff\xf3": "mp3"}
"""By how such files begin."""
RIFF = {b"WEBP": ("image", "webp"), b"WAVE": ("audio", "wav")}
"""By what follows RIFF and a size."""


def content(prompt: str, files: Sequence[Path]) -> Content:
    """A message's content: the files first, as Gemma was trained, then the text.

    Raises:
        UsageError: a file is no picture and no sound, cannot be read, or is too large to send.
    """
    return [*map(part, files), {"type": "text", "text": prompt}] if files else prompt


def part(file: Path) -> dict[str, Any]:
    """A file as a part of a message."""
    try:
        size = file.stat().st_size
        data = file.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from None
    if not data:
        raise UsageError(f"{file} has {format_file_size(size)}; 1 byte to {format_file_size(LARGEST)} can be sent")
    kind, name = kind_of(data) or ("", "")
    encoded = base64.b64encode(data).decode()
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": f"data:image/{name};base64,{encoded}"}}
    if kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": name}}
    raise UsageError(f"{file} is no picture and no sound", hint="PNG, JPEG, GIF, WebP, WAV and MP3 can be sent")


def kind_of(data: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes: `image` or `audio`, and its format."""
    if data.startswith(b"RIFF"):
        return RIFF.get(data[8:12])
    for kind, known in (("image", PICTURES), ("audio", SOUNDS)):
        for magic, name in known.items():
            if data.startswith(magic):
                return kind, name
    return None
