"""Which licences the user has been shown: once for each model, not at each download."""

from __future__ import annotations

import contextlib
from pathlib import Path

from advisor.running import sessions


def is_new(model: str, licence: str) -> bool:
    """Whether this licence of this model has not been shown yet."""
    try:
        return _line(model, licence) not in _file().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return True


def shown(model: str, licence: str) -> None:
    """Remember it. Where that cannot be, it is shown again."""
    if is_new(model, licence):
        with contextlib.suppress(OSError), _file().open("a", encoding="utf-8") as file:
            file.write(_line(model, licence) + "\n")


def _file() -> Path:
    return sessions.folder() / "licences"


def _line(model: str, licence: str) -> str:
    return f"{model} {licence}"
