"""Where advisor keeps files of its own: the folders that the operating system intends for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """What can be made again at any time; it may not exist yet.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "gemma-advisor"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "gemma-advisor" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gemma-advisor"
    return Path.home() / ".cache" / "gemma-advisor"


STATE = "GEMMA_ADVISOR_STATE"
"""Names the folder for state, where the usual one will not do."""


def state_folder() -> Path:
    """What cannot be made again: sessions, measurements; it may not exist yet.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if given := os.environ.get(STATE):
        return Path(given)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "gemma-advisor"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gemma-advisor"
    given = os.environ.get("XDG_STATE_HOME", "")
    return (Path(given) if given.strip() else Path.home() / ".local" / "state") / "gemma-advisor"


def measurements_file() -> Path:
    """What was measured on this machine; it may not exist.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return state_folder() / "measurements.jsonl"
