"""Where a runtime is installed and which version of it, from the names of folders: nothing of it is run or imported."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from advisor.knowledge.profile import Runtime
from advisor.machine import Record

PIECES = re.compile(r"\d+")
SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


class Installed(Record, frozen=True, kw_only=True):
    """A runtime's program and its version; `version` empty where its environment does not tell. `package`: the
    distribution that was found."""

    program: Path
    version: str = ""
    package: str = ""


def find(runtime: Runtime) -> Installed | None:
    """The runtime: where its variable says, on the PATH, or beside this Python."""
    program = _program(runtime)
    if program is None:
        return None
    for folder in _packages(program):
        for package in runtime.packages:
            if version := _version(folder, package):
                return Installed(program=program, version=version, package=package)
    return Installed(program=program)


def _program(runtime: Runtime) -> Path | None:
    if given := os.environ.get(runtime.variable):
        found = shutil.which(Path(given).expanduser())
        return Path(found) if found else None
    beside = str(Path(sys.executable).parent)
    found = shutil.which(runtime.program) or shutil.which(runtime.program, path=beside)
    return Path(found) if found else None


def _packages(program: Path) -> Iterator[Path]:
    """The package folders of the environment that a program belongs to; a link to it is followed."""
    root = program.resolve().parent.parent
    yield from sorted(root.glob("lib/python3*/site-packages"), reverse=True)
    yield root / "Lib" / "site-packages"


def _version(folder: Path, package: str) -> str:
    name = package.replace("-", "_")
    found = [each.name for each in folder.glob(f"{name}-*.dist-info")]
    versions = [each.removeprefix(f"{name}-").removesuffix(".dist-info") for each in found]
    return max(versions, key=parts, default="")


def system() -> str:
    """This system, as the profiles name it."""
    return SYSTEMS.get(sys.platform, "linux")


def parts(version: str) -> tuple[int, ...]:
    """The numbers of a release, for comparing: `0.21.0rc1+cu129` -> (0, 21, 0)."""
    release = re.match(r"[\d.]+", version)
    return tuple(int(each) for each in PIECES.findall(release[0])) if release else ()


def reaches(version: str, floor: str) -> bool:
    """Whether a version is the floor or later; an unknown one counts as later: what runs will tell."""
    return not version or parts(version) >= parts(floor)
