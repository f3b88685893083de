"""Compile llama-cpp-python once, portably, and keep the wheel. Standard library only: nothing is installed yet.

Why not plain `pip install`: llama.cpp builds for the compiling machine by default and trusts what the processor
announces. On virtual machines that announce AMX and cannot use it, such a build dies with an illegal instruction at the
first quantized matrix product. `GGML_NATIVE=OFF` builds for AVX2 (or NEON), which runs everywhere. And pip's own wheel
cache does not know the flags a wheel was built with, so ours is a folder of its own.

    python backends/native/compile.py            prints the wheel's path; compiles where there is none yet
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VERSION = "0.3.36"
FLAGS = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
STEP = re.compile(r"\[(\d+)/(\d+)\]")


def cache() -> Path:
    """Where builds are kept: the user's cache, by platform."""
    if os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path.home() / ".cache"
    return base / "gemma-advisor"


def flags() -> str:
    """CMake's arguments: ours, unless the user gave others."""
    return os.environ.get("CMAKE_ARGS", FLAGS)


def shelf(version: str, kind: str = "wheels") -> Path:
    """The folder of one version built with one set of flags; two sets never share a wheel."""
    name = re.sub(r"[^A-Za-z0-9=.]+", "-", flags().replace("-D", "")).strip("-")
    return cache() / kind / version / name


def find(folder: Path) -> Path | None:
    """The finished wheel in `folder`, if there is one."""
    return next(iter(sorted(folder.glob("*.whl"))), None)


def say(text: str, *, end: str = "\n") -> None:
    """Progress goes to standard error; standard output is the wheel's path alone."""
    print(text, end=end, file=sys.stderr, flush=True)


def follow(process: subprocess.Popen[str], log: Path) -> None:
    """Add the build's output to `log` and show one line of progress: in place on a terminal, else every 10%."""
    began, shown = time.monotonic(), -1
    assert process.stdout is not None  # noqa: S101 - opened with a pipe below
    with log.open("a") as file:
        for line in process.stdout:
            file.write(line)
            step = STEP.search(line)
            if not step:
                continue
            percent = 100 * int(step[1]) // max(1, int(step[2]))
            text = f"  {percent:3d}%  {int(time.monotonic() - began)} s"
            if sys.stderr.isatty():
                say(text, end="\r")
            elif percent // 10 > shown:
                shown = percent // 10
                say(text)


def tail(log: Path) -> str:
    """The end of a log, where the error is."""
    return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])


def build(version: str, folder: Path) -> Path:
    """Compile into a folder of its own and move the wheel in place whole, so an interrupted build leaves nothing.

    Raises:
        SystemExit: the build failed; the log is kept and its end shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    say(f"Compiling llama.cpp (llama-cpp-python {version}), once: about 4 minutes on 2 cores.")
    say(f"  flags {flags()}\n  log   {log}\n  wheel {folder}")
    log.write_text("")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        argv = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir"]
        argv += ["--no-binary", "llama-cpp-python", "-w", scratch, f"llama-cpp-python=={version}"]
        environment = {**os.environ, "CMAKE_ARGS": flags(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        )
        try:
            follow(process, log)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            say("\nstopped; nothing was kept")
            raise SystemExit(130) from None
        wheel = find(Path(scratch))
        if process.wait() != 0 or wheel is None:
            raise SystemExit(
                f"{tail(log)}\nllama-cpp-python did not compile. Is there a C++ compiler? The whole log: {log}"
            )
        final = folder / wheel.name
        shutil.move(wheel, final)
    return final


def main() -> None:
    """Print the path of the wheel, compiling it where needed."""
    version = os.environ.get("LLAMA_CPP_PYTHON_VERSION", VERSION)
    folder = shelf(version)
    print(find(folder) or build(version, folder))


if __name__ == "__main__":
    main()
