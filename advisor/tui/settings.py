"""The user's settings: `wizard.toml` in the folder that the system keeps for configuration.

Each can be overridden for one run by an environment variable: `GEMMA_ADVISOR_THEME=nord advisor`. A file that cannot be
read is as good as none: the wizard opens all the same and says what is wrong with it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import msgspec

from advisor.choice.candidates import Prefer
from advisor.errors import UsageError
from advisor.machine import Record

PREFIX = "GEMMA_ADVISOR_"
FILE = "wizard.toml"


class Settings(Record, frozen=True, kw_only=True):
    """What the wizard remembers, and what it begins with."""

    theme: str = "advisor-dark"
    """Colours: `advisor-dark`, `advisor-light`, `ansi-dark` (the terminal's own) or any of Textual's. Remembered."""

    use_case: str = "chat"
    """What it recommends for at first."""

    prefer: Prefer | None = None
    """`balanced`, `quality` or `speed`; the use case's own where it is not given."""


def folder() -> Path:
    """Where settings are kept; `GEMMA_ADVISOR_CONFIG` names another one. It may not exist yet."""
    if given := os.environ.get(f"{PREFIX}CONFIG"):
        return Path(given)
    if given := os.environ.get("XDG_CONFIG_HOME"):
        return Path(given) / "gemma-advisor"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "gemma-advisor"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gemma-advisor"
    return Path.home() / ".config" / "gemma-advisor"


def load() -> Settings:
    """The settings of the file, with those of the environment over them.

    Raises:
        UsageError: naming the file or the variable, and what is wrong with it.
    """
    found = _read(folder() / FILE)
    for name in Settings.__struct_fields__:
        variable = f"{PREFIX}{name.upper()}"
        if value := os.environ.get(variable):
            found = _checked({**msgspec.to_builtins(found), name: value}, variable)
    return found


def save(settings: Settings) -> None:
    """Write them for the next time.

    Raises:
        UsageError: the file cannot be written.
    """
    path = folder() / FILE
    values = {name: value for name, value in msgspec.to_builtins(settings).items() if value is not None}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{FILE}.{os.getpid()}")
        part.write_text(_toml(values), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}", hint=f"Set {PREFIX}CONFIG to another folder."
        ) from error


def _toml(values: dict[str, str]) -> str:
    # A string of JSON is one of TOML too.
    return "".join(f"{name} = {msgspec.json.encode(value).decode()}\n" for name, value in values.items())


def _read(path: Path) -> Settings:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}", hint="Mend it, or delete it.") from error
    return _checked(tree, str(path))


def _checked(tree: object, where: str) -> Settings:
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}", hint="Mend it, or delete it.") from error
