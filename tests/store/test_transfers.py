"""Downloads as they happen: two processes, one that is killed, a full disk, split files, and who gets the token."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gguf as writer
import numpy as np
import pytest

from advisor.errors import DownloadFailed, RuntimeFailed
from advisor.files import download, gguf, shelves, store
from advisor.files.store import Wanted
from tests.engine import random_pair
from tests.fakes.hub import Fault, Hub
from tests.store.conftest import REPO, TARGET
from tests.store.test_store import Pair, blobs, silent, whole

FETCH = """
import sys
from advisor.files import store
from advisor.files.store import Wanted
wanted = Wanted(role="target", repo=sys.argv[1], file=sys.argv[2], size=int(sys.argv[3]), width=int(sys.argv[4]))
files = store.locate([wanted])
store.fetch(files, lambda what, done, size: print(done, what, flush=True))
print("whole", files[0].path, flush=True)
"""


def fetching(meant: Wanted, home: Path) -> subprocess.Popen[str]:
    """Another process that fetches the same."""
    argv = [sys.executable, "-c", FETCH, meant.repo, meant.file, str(meant.size), str(meant.width)]
    environment = {**os.environ, "HOME": str(home / "home")}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []
    yield made
    for process in made:
        process.kill()
        process.communicate()


def test_two_processes_share_one_download(
    hub: Hub, wanted: Pair, home: Path, processes: list[subprocess.Popen[str]]
) -> None:
    hub.bytes_per_s = 12 << 20
    processes += [fetching(wanted[0], home) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert hub.asked == [(0, wanted[0].size)], "sent once"
    assert all(out.splitlines()[-1].startswith("whole ") for out, _ in said)
    assert sum(f"{TARGET} (fetched by another program)" in out for out, _ in said) == 1, "and it says so"


def test_one_that_is_killed_leaves_its_part_to_the_next(
    hub: Hub, wanted: Pair, home: Path, processes: list[subprocess.Popen[str]]
) -> None:
    hub.bytes_per_s = 12 << 20
    first, second = fetching(wanted[0], home), fetching(wanted[0], home)
    processes += [first, second]
    owner = None
    until = time.monotonic() + 30
    while owner is None and time.monotonic() < until:
        parts = list(shelves.repo_folder(REPO).glob(f"blobs/*{download.PART}"))
        owner = parts[0] if parts and parts[0].stat().st_size > 1 << 20 else None
        time.sleep(0.01)
    assert owner is not None and blobs() == []
    assert first.stdout is not None
    one, other = (second, first) if "another program" in first.stdout.readline() else (first, second)
    one.send_signal(signal.SIGKILL)
    out, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    [file] = store.locate(wanted[:1])
    assert file.here and file.path == Path(out.splitlines()[-1].removeprefix("whole "))
    assert file.path.read_bytes() == hub.repos[REPO][TARGET]
    assert hub.asked[-1][0] > 1 << 20, "it went on where the dead one was"


SMALL_DISK = """
import errno, hashlib, sys
from pathlib import Path
import httpx
from advisor.files.download import PART, download
from advisor.errors import DownloadFailed
url, size, sha256, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
with httpx.Client(follow_redirects=True) as client:
    try:
        download(client, url, folder / "blob", name="model.gguf", size=size, sha256=sha256, progress=lambda *_: None)
    except DownloadFailed as error:
        print(error.message, error.hint, sep="|")
print((folder / ("blob" + PART)).stat().st_size, (folder / "blob").exists())
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="a disk of its own needs Linux's namespaces")
def test_a_disk_that_fills_up_in_between(hub: Hub, wanted: Pair, tmp_path: Path) -> None:
    """A real one, of 2 MB: the check before a download cannot know what others write meanwhile."""
    [file] = store.locate(wanted[:1])
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=2m none "$1" && shift && exec "$@"'
    url = f"{hub.url}/{REPO}/resolve/main/{TARGET}"
    argv = [sys.executable, "-c", SMALL_DISK, url, str(file.size), file.sha256, str(folder)]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", str(folder), *argv], capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in done.stderr or "mount" in done.stderr:
        pytest.skip("this system does not let its users mount")
    said, kept = done.stdout.splitlines()
    assert said.startswith("the disk is full: ") and "HF_HOME" in said
    size, appeared = kept.split()
    assert int(size) > 1 << 20 and appeared == "False"


# ---- Whom the token goes to


def test_the_token_never_leaves_the_hub(hub: Hub, wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files come from another host than the Hub (here `localhost` and not `127.0.0.1`), and that one gets none."""
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = store.locate(wanted)
    store.fetch(files, silent)
    assert whole(files)
    assert hub.tokens["127.0.0.1"] == {"Bearer hf_secret"}
    assert hub.tokens["localhost"] == {""}


def test_the_token_that_the_user_logged_in_with(
    hub: Hub, wanted: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_kept"
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_kept")
    assert not store.locate(wanted[1:])[0].here
    assert hub.tokens == {"127.0.0.1": {"Bearer hf_kept"}, "localhost": {""}}


# ---- Where files go


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
def test_files_go_where_the_user_wants_them(
    hub: Hub, wanted: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "large disk"))
    place = tmp_path / "large disk" / ("hub" if variable == "HF_HOME" else "")
    files = store.locate(wanted[1:])
    store.fetch(files, silent)
    assert whole(files) and files[0].path.is_relative_to(place)
    # As huggingface_hub keeps it: others find it too.
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(REPO, files[0].file, cache_dir=place)
    assert found == str(files[0].path)


# ---- What a file may be


def test_a_split_file_is_fetched_in_all_its_parts(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GGUFWriter", partial(writer.GGUFWriter, split_max_tensors=40))
    random_pair.write_target(tmp_path / "big-Q8_0.gguf")
    parts = sorted(tmp_path.glob("big-Q8_0-*.gguf"))
    assert len(parts) > 2
    hub.add(REPO, **{f"Q8_0/{part.name}": part.read_bytes() for part in parts})
    first = f"Q8_0/{parts[0].name}"
    width = gguf.read(parts[0]).embedding_length
    meant = Wanted(role="target", repo=REPO, file=first, size=sum(part.stat().st_size for part in parts), width=width)
    files = store.locate([meant])
    assert [Path(file.file).name for file in files] == [part.name for part in parts]
    store.fetch(files[:-1], silent)
    assert not any(file.here for file in store.locate([meant])), "not used before its last part is here"
    store.fetch(files, silent)
    store.verified(files)
    [found] = store.locate([meant])
    assert found.here and found.path.name == parts[0].name
    del hub.repos[REPO][f"Q8_0/{parts[1].name}"]
    shutil.rmtree(shelves.hub_cache())
    with pytest.raises(DownloadFailed, match="lacks parts"):
        store.locate([meant])


def projector(path: Path, architecture: str = "clip") -> bytes:
    out = writer.GGUFWriter(path, architecture)
    out.add_bool("clip.has_vision_encoder", True)
    out.add_tensor("mm.input_projection.weight", np.ones((32, 32), np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path.read_bytes()


def test_a_projector_is_one_more_file(hub: Hub, wanted: Pair, tmp_path: Path) -> None:
    data = projector(tmp_path / "mmproj.gguf")
    meant = Wanted(role="projector", repo=REPO, file="mmproj-F16.gguf", size=len(data), width=wanted[0].width)
    hub.add(REPO, **{"mmproj-F16.gguf": data})
    files = store.locate([*wanted, meant])
    store.fetch(files, silent)
    store.verified(files)
    assert whole(files) and store.at(files, "projector") == files[2].path
    assert [file.here for file in store.locate([*wanted, meant])] == [True] * 3
    shutil.rmtree(shelves.hub_cache())
    hub.add(REPO, **{"mmproj-F16.gguf": projector(tmp_path / "other.gguf", "llama")})
    with pytest.raises(RuntimeFailed, match="is no projector: its architecture is 'llama'"):
        store.locate([meant])


def test_a_status_in_the_middle(hub: Hub, wanted: Pair) -> None:
    """A token may be withdrawn, and a file, between two requests."""
    [file] = store.locate(wanted[:1])
    for status, hint in ((401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "renamed"), (400, "later")):
        hub.faults = [Fault(cut=2 << 20), Fault(status=status)]
        with pytest.raises(DownloadFailed, match=str(status)) as error:
            store.fetch([file], silent)
        assert hint in error.value.hint and blobs() == []
    assert store.missing_bytes([file]) < file.size, "what came is kept"


def test_the_hub_says_how_long_to_wait(hub: Hub, wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(status=429, headers={"Retry-After": "7"}), Fault(status=503), Fault(status=500)]
    store.fetch([file], silent)
    assert whole((file,)) and waited == [7.0, download.BACKOFF_S * 2, download.BACKOFF_S * 4]
