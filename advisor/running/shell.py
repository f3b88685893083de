"""Command lines that run as they are printed, in the user's own shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.files.store import File


def quoted(words: Sequence[str]) -> str:
    """One line for the shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def fetching(command: str, files: Iterable[File]) -> str:
    """The command, with what is not here yet fetched in it: the Hub's own client prints where it put a file, in `sh`
    and in PowerShell alike.

    Args:
        files: those that the command names; of a split one, it names the first part.
    """
    before = []
    for file in files:
        path = quoted([str(file.path)])
        if file.here:
            continue
        fetch = quoted([_client(), "download", "--quiet", file.repo, file.file])
        if path in command:
            command = command.replace(path, f'"$({fetch})"')
        else:
            before.append(f"{fetch} && ")
    return "".join(before) + command


def _client() -> str:
    """huggingface_hub's program, which is installed with advisor, if not always on the PATH."""
    beside = Path(sys.executable).with_name("hf.exe" if os.name == "nt" else "hf")
    return "hf" if shutil.which("hf") or not beside.is_file() else str(beside)
