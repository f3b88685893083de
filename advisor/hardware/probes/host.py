"""The one seam between the probes and the machine: files, tools, environment.

A probe never opens a file or starts a program itself, so what it saw can be recorded (`Recorder`, used by `advisor
doctor`) and replayed on any other machine (`Replay`, used by the tests). Reading never raises; running raises only
`ToolError`.
"""

from __future__ import annotations

import codecs
import locale
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import msgspec

from advisor.machine import Gpu, Problem, Record

TIMEOUT_S = 2.0
MOST_BYTES = 4 << 20
"""A file of /proc or /sys is never larger than this; /proc/cpuinfo of 512 threads has about 1 MB."""

ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES",
    "KUBERNETES_SERVICE_HOST",
    "PROCESSOR_IDENTIFIER",
    "WSL_DISTRO_NAME",
    "container",
)
"""The only variables that a probe looks at, and the only ones that a recording holds."""


class ToolError(Exception):
    """A program is missing, hangs, or failed without an answer; the text says which, in one line."""


class Found(Record, frozen=True, kw_only=True):
    """What a GPU probe returns. `assumed`: names of fields of `gpus` (dotted, `0.memory_total_bytes`) that are a rule's
    figure and not a reading. `unified`: one of the GPUs works in main memory.
    """

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[Problem, ...] = ()
    assumed: tuple[str, ...] = ()
    unified: bool = False


class Findings(Record, frozen=True, kw_only=True):
    """Everything that the probes saw, as text: enough to replay a detection elsewhere."""

    system: str
    arch: str = ""
    release: str = ""
    environ: dict[str, str] = msgspec.field(default_factory=dict)
    files: dict[str, str] = msgspec.field(default_factory=dict)
    folders: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    tools: dict[str, str] = msgspec.field(default_factory=dict)
    physical_bytes: tuple[int, int] = (0, 0)
    processor_features: tuple[int, ...] = ()


class Host(Protocol):
    """A machine as the probes see it. `system`: `Linux`, `Darwin` or `Windows`; `arch`: as `platform.machine()`."""

    @property
    def system(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def release(self) -> str: ...
    @property
    def environ(self) -> Mapping[str, str]: ...

    def read(self, path: str) -> str:
        """The text of a file, without surrounding blanks; empty when it cannot be read."""

    def names(self, folder: str) -> tuple[str, ...]:
        """The sorted entries of a folder; empty when it cannot be listed."""

    def run(self, argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
        """What a program wrote to standard output.

        Raises:
            ToolError: it is not installed, took too long, or failed and wrote nothing.
        """

    def has_tool(self, name: str) -> bool:
        """Whether a program of that name is on the PATH."""

    def physical(self) -> tuple[int, int]:
        """Main memory as the operating system tells it: (total, available) bytes; zeros when it does not."""

    def processor_feature(self, number: int) -> bool:
        """Windows' IsProcessorFeaturePresent; False elsewhere."""

    def nvml(self) -> ModuleType | None:
        """The module `pynvml`, where it can be imported."""


class Local:
    """This machine. `root` stands for `/` in every path that is read."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.system = platform.system()
        self.arch = platform.machine()
        self.environ: Mapping[str, str] = os.environ

    @property
    def release(self) -> str:
        return platform.mac_ver()[0] if self.system == "Darwin" else platform.release()

    def read(self, path: str) -> str:
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(MOST_BYTES).decode("utf-8", "replace").replace("\0", " ").strip()
        except (OSError, ValueError):
            return ""

    def names(self, folder: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(self.root / folder.lstrip("/"))))  # noqa: PTH208 - names, not paths
        except (OSError, ValueError):
            return ()

    def run(self, argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
        try:
            done = subprocess.run(
                list(argv),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=False,
                # Numbers and messages of a tool follow the user's language otherwise.
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"{argv[0]} did not answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise ToolError(f"{argv[0]} cannot be run: {error}") from None
        text = decoded(done.stdout, _code_page()).strip()
        # sysctl and nvidia-smi fail as a whole when one of the keys is unknown, and still answer the others.
        if done.returncode and not text:
            said = decoded(done.stderr, _code_page()).strip().partition("\n")[0]
            raise ToolError(f"{argv[0]} failed with status {done.returncode}: {said}")
        return text

    def has_tool(self, name: str) -> bool:
        return shutil.which(name) is not None

    def physical(self) -> tuple[int, int]:
        try:
            import psutil  # noqa: PLC0415 - 20 ms that Linux does not need

            memory = psutil.virtual_memory()
            return int(memory.total), int(memory.available)
        except Exception:  # noqa: BLE001 - psutil raises what the platform raises
            return 0, 0

    def processor_feature(self, number: int) -> bool:
        import ctypes  # noqa: PLC0415

        kernel32 = getattr(getattr(ctypes, "windll", None), "kernel32", None)
        return bool(kernel32 and kernel32.IsProcessorFeaturePresent(number))

    def nvml(self) -> ModuleType | None:
        try:
            import pynvml  # noqa: PLC0415 - only where the driver is there
        except ImportError:
            return None
        module: ModuleType = pynvml
        return module


MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""What a text may begin with, and its encoding then."""


def decoded(data: bytes, code_page: str = "") -> str:
    """What a program wrote, as text; never raises.

    Windows' own programs write UTF-16 or the console's code page (`cp850`, `cp936`), not UTF-8. Read as UTF-8 with
    replacements, a Chinese character whose second byte is a backslash would make JSON of nonsense.
    """
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return data.decode("utf-16-le", "replace")
    for name in ("utf-8", code_page):
        try:
            return data.decode(name or "utf-8")
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("utf-8", "replace")


def _code_page() -> str:
    """Of Windows' console (German: cp850, simplified Chinese: cp936); the locale's encoding elsewhere."""
    import ctypes  # noqa: PLC0415

    kernel32 = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    return f"cp{kernel32.GetOEMCP()}" if kernel32 else locale.getpreferredencoding(do_setlocale=False)


class Replay:
    """A machine out of `Findings`. A tool whose answer begins with `!` failed, in the words that follow."""

    def __init__(self, findings: Findings, nvml: ModuleType | None = None) -> None:
        self.findings = findings
        self.system = findings.system
        self.arch = findings.arch
        self.release = findings.release
        self.environ: Mapping[str, str] = findings.environ
        self._nvml = nvml

    def read(self, path: str) -> str:
        return self.findings.files.get(path, "").strip()

    def names(self, folder: str) -> tuple[str, ...]:
        prefix = folder.rstrip("/") + "/"
        below = {path[len(prefix) :].split("/")[0] for path in self.findings.files if path.startswith(prefix)}
        return tuple(sorted(below | set(self.findings.folders.get(folder, ()))))

    def run(self, argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:  # noqa: ARG002
        text = self.findings.tools.get(" ".join(argv))
        if text is None:
            raise ToolError(f"{argv[0]} cannot be run: not in the recording")
        if text.startswith("!"):
            raise ToolError(text[1:].strip())
        return text.strip()

    def has_tool(self, name: str) -> bool:
        return any(line.split(" ")[0] == name for line in self.findings.tools)

    def physical(self) -> tuple[int, int]:
        return self.findings.physical_bytes

    def processor_feature(self, number: int) -> bool:
        return number in self.findings.processor_features

    def nvml(self) -> ModuleType | None:
        return self._nvml


KEPT_LINES = {"/proc/self/mountinfo": "cgroup", "/proc/self/status": "Cpus_allowed_list"}
KEPT_NAMES = {
    "/": ".dockerenv",
    "/run": ".containerenv",
    "/dev": "kfd nvidiactl",
    "/usr/lib/wsl/lib": "libnvidia-ml.so.1 nvidia-smi",
}
"""What a recording keeps of files and folders that also tell of other things: the words that a probe looks for."""


SERIAL = re.compile(r'(serial[^:\n]{0,40}:[ \t]*"?)[^",\n]+|(UUID: (?:GPU|MIG)-)[0-9a-f-]+', re.IGNORECASE)
"""Serial numbers, of a Raspberry Pi in /proc/cpuinfo, displays on macOS and NVIDIA's cards: a report holds none."""


def anonymous(text: str) -> str:
    """The text without serial numbers."""
    return SERIAL.sub(lambda found: f"{found[1] or found[2]}removed", text)


class Recorder:
    """Another host, keeping what it answers and was asked for, and no more."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.system, self.arch, self.release, self.environ = host.system, host.arch, host.release, host.environ
        self._files: dict[str, str] = {}
        self._folders: dict[str, tuple[str, ...]] = {}
        self._tools: dict[str, str] = {}
        self._features: set[int] = set()
        self._physical = (0, 0)

    def findings(self) -> Findings:
        """What was read so far; files that were not there are left out."""
        environ = {name: self.environ[name] for name in ENVIRONMENT if name in self.environ}
        return Findings(
            system=self.system,
            arch=self.arch,
            release=self.release,
            environ=environ,
            files=self._files,
            folders=self._folders,
            tools=self._tools,
            physical_bytes=self._physical,
            processor_features=tuple(sorted(self._features)),
        )

    def read(self, path: str) -> str:
        text = self.host.read(path)
        if text:
            word = KEPT_LINES.get(path, "")
            kept = "\n".join(line for line in text.splitlines() if word in line)
            self._files[path] = anonymous(kept)
        return text

    def names(self, folder: str) -> tuple[str, ...]:
        names = self.host.names(folder)
        kept = [name for name in names if name in KEPT_NAMES[folder].split()] if folder in KEPT_NAMES else names
        if kept:
            self._folders[folder] = tuple(kept)
        return names

    def run(self, argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
        try:
            text = self.host.run(argv, timeout_s)
        except ToolError as failed:
            self._tools[" ".join(argv)] = f"! {failed}"
            raise
        self._tools[" ".join(argv)] = anonymous(text)
        return text

    def has_tool(self, name: str) -> bool:
        return self.host.has_tool(name)

    def physical(self) -> tuple[int, int]:
        self._physical = self.host.physical()
        return self._physical

    def processor_feature(self, number: int) -> bool:
        present = self.host.processor_feature(number)
        if present:
            self._features.add(number)
        return present

    def nvml(self) -> ModuleType | None:
        return self.host.nvml()


def number(text: str) -> int | None:
    """A decimal or 0x-number in `text` (blanks around it allowed), or None. Never raises, however long the text is."""
    text = text.strip()
    try:
        return int(text, 16) if text[:2].lower() == "0x" else int(text)
    except ValueError:
        return None


def size(text: str) -> int | None:
    """`number`, where it can be a size in bytes: 0 .. 2^63 - 1."""
    value = number(text)
    return value if value is not None and 0 <= value < 1 << 63 else None
