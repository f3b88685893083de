"""Files: which upload is meant, what is here already, and downloads that go wrong in every way a network knows."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from advisor.errors import DownloadFailed, RuntimeFailed
from advisor.files import download, shelves, store
from advisor.files.hub import Listing, Upload
from advisor.files.store import File, Wanted
from advisor.knowledge import catalog
from tests.engine import random_pair
from tests.fakes.hub import COMMIT, Fault, Hub
from tests.store.conftest import DRAFTER, REPO, TARGET

Pair = tuple[Wanted, Wanted]


def silent(_what: str, _done: int, _size: int | None) -> None:
    pass


def whole(files: tuple[File, ...]) -> bool:
    return all(hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256 for file in files)


def blobs() -> list[Path]:
    """What the cache holds that looks whole."""
    folder = shelves.repo_folder(REPO) / "blobs"
    return [path for path in folder.glob("*") if path.suffix == ""] if folder.is_dir() else []


# ---- What is needed, and which upload is meant


def test_every_choice_of_the_catalogue_names_its_files() -> None:
    for profile in catalog.load().models.values():
        for quant in profile.quants:
            found = store.needed(profile, quant, profile.drafter.files[0], profile.projector)
            assert [each.role for each in found] == ["target", "drafter", "projector"]
            assert all(each.size > 0 and each.width == profile.architecture.hidden for each in found)


def there(*uploads: tuple[str, int]) -> Listing:
    return Listing(
        repo=REPO, commit=COMMIT, uploads=tuple(Upload(name=name, size=size, sha256="0") for name, size in uploads)
    )


@pytest.mark.parametrize(
    ("role", "file", "size", "uploads", "chosen"),
    [
        ("drafter", "mtp-gemma-4-12B-it.gguf", 250, [("mtp-gemma-4-12B-it.gguf", 250)], "mtp-gemma-4-12B-it.gguf"),
        ("drafter", "mtp-x.gguf", 250, [("MTP/mtp-x.gguf", 250), ("x-Q8_0.gguf", 900)], "MTP/mtp-x.gguf"),
        (
            "drafter",
            "mtp-x.gguf",
            250,
            [("MTP/gemma-4-12B-it-MTP-Q8_0.gguf", 464), ("MTP/gemma-4-12B-it-MTP-Q4_0.gguf", 253), ("x.gguf", 250)],
            "MTP/gemma-4-12B-it-MTP-Q4_0.gguf",
        ),
        ("target", "gemma-4-12B-it-Q8_0.gguf", 900, [("gemma-4-12b-it-Q8_0.gguf", 900)], "gemma-4-12b-it-Q8_0.gguf"),
        (
            "target",
            "gemma-4-E2B-it-Q8_0.gguf",
            900,
            [("MTP/mtp-new-Q8_0.gguf", 90), ("new-name-Q8_0.gguf", 901), ("new-name-Q4_0.gguf", 400)],
            "new-name-Q8_0.gguf",
        ),
        ("projector", "mmproj-F16.gguf", 98, [("mmproj-BF16.gguf", 99), ("mmproj-F16.gguf", 98)], "mmproj-F16.gguf"),
    ],
)
def test_the_repositorys_listing_decides(
    role: store.Role, file: str, size: int, uploads: list[tuple[str, int]], chosen: str
) -> None:
    meant = Wanted(role=role, repo=REPO, file=file, size=size, width=1)
    assert store.choose(meant, there(*uploads)).name == chosen


def test_a_withdrawn_file_is_an_error_that_names_the_others() -> None:
    meant = Wanted(role="target", repo=REPO, file="x-Q8_0.gguf", size=1, width=1)
    with pytest.raises(DownloadFailed, match="no longer has") as error:
        store.choose(meant, there(("x-Q4_0.gguf", 1), ("mtp-x.gguf", 1)))
    assert "x-Q4_0.gguf" in error.value.hint


# ---- From the Hub


def test_nothing_but_headers_is_read_before_the_plan_is_known(hub: Hub, wanted: Pair) -> None:
    files = store.locate(wanted)
    assert [file.source for file in files] == ["download", "download"]
    assert hub.asked == [] and not shelves.hub_cache().exists()
    assert store.missing_bytes(files) == sum(each.size for each in wanted)


def test_the_pair_arrives_where_it_was_announced_and_is_found_again(hub: Hub, wanted: Pair) -> None:
    files = store.locate(wanted)
    seen: list[tuple[str, int, int | None]] = []
    store.fetch(files, lambda *step: seen.append(step))
    assert whole(files) and seen[-1] == (DRAFTER, wanted[1].size, wanted[1].size)
    store.verified(files)
    before = len(hub.requests)
    again = store.locate(wanted)
    assert [file.source for file in again] == ["Hugging Face cache"] * 2 and len(hub.requests) == before
    assert store.at(again, "target") == files[0].path


def test_a_renamed_file_is_found_by_its_listing(hub: Hub, wanted: Pair, target: bytes) -> None:
    hub.repos[REPO] = {"renamed-UD-Q4_K_XL.gguf": target}
    [file] = store.locate(wanted[:1])
    assert file.file == "renamed-UD-Q4_K_XL.gguf"
    store.fetch([file], silent)
    assert store.locate(wanted[:1])[0].here, "not fetched again under its old name"


@pytest.mark.parametrize("seed", range(4))
def test_connections_dropped_at_random_bytes_cost_nothing_twice(hub: Hub, wanted: Pair, seed: int) -> None:
    chance = random.Random(seed)
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(cut=chance.randrange(1, file.size // 3)) for _ in range(5)]
    store.fetch([file], silent)
    assert whole((file,)) and not hub.faults
    begins = [begin for begin, _ in hub.asked]
    assert begins == sorted(begins) and begins[-1] > 0, "each goes on where the one before ended"


def test_one_that_is_cancelled_keeps_its_part_and_goes_on(hub: Hub, wanted: Pair) -> None:
    [file] = store.locate(wanted[:1])

    def cancel(_what: str, done: int, _size: int | None) -> None:
        if done > file.size // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fetch([file], cancel)
    assert blobs() == [] and not file.path.exists(), "nothing looks whole"
    kept = file.size - store.missing_bytes([file])
    assert kept > file.size // 2
    hub.asked.clear()
    store.fetch([file], silent)
    assert whole((file,)) and hub.asked[0][0] == kept


def test_a_wrong_checksum_leaves_nothing(hub: Hub, wanted: Pair) -> None:
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(garble=True)]
    with pytest.raises(DownloadFailed, match="checksum") as error:
        store.fetch([file], silent)
    assert error.value.exit_code == 5 and blobs() == [] and store.missing_bytes([file]) == file.size
    store.fetch([file], silent)
    assert whole((file,))


def test_a_server_that_ignores_the_range_starts_over(hub: Hub, wanted: Pair) -> None:
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(cut=300_000), Fault(ignore_range=True)]
    store.fetch([file], silent)
    assert whole((file,))


def test_a_stalled_transfer_is_taken_up_again(hub: Hub, wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL_S", 0.3)
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(cut=200_000, stall=1.0)]
    store.fetch([file], silent)
    assert whole((file,)) and len(hub.asked) >= 1


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_servers_that_are_busy_are_asked_again(hub: Hub, wanted: Pair, status: int) -> None:
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(status=status, headers={"Retry-After": "0"})] * 2
    store.fetch([file], silent)
    assert whole((file,))


def test_patience_ends(hub: Hub, wanted: Pair) -> None:
    [file] = store.locate(wanted[:1])
    hub.faults = [Fault(status=503)] * 20
    with pytest.raises(DownloadFailed, match="does not come: the server answers 503"):
        store.fetch([file], silent)
    hub.faults = [Fault(status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(DownloadFailed, match="3600 seconds"):
        store.fetch([file], silent)


def test_a_full_disk_is_said_and_the_part_kept(hub: Hub, wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    [file] = store.locate(wanted[:1])

    def full(_what: str, done: int, _size: int | None) -> None:
        if done > 1 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DownloadFailed, match="disk is full") as error:
        store.fetch([file], full)
    assert "HF_HOME" in error.value.hint and store.missing_bytes([file]) < file.size
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1, 1, 1000))
    with pytest.raises(DownloadFailed, match="are free in"):
        store.fetch([file], silent)


@pytest.mark.parametrize(("status", "hint"), [(401, "HF_TOKEN"), (403, "licence"), (404, "renamed"), (503, "later")])
def test_a_repository_that_cannot_be_read(hub: Hub, wanted: Pair, status: int, hint: str) -> None:
    hub.api_fault = Fault(status=status)
    with pytest.raises(DownloadFailed) as error:
        store.locate(wanted)
    assert hint in error.value.hint
    assert str(store.locate(wanted, strict=False)[0].path) == f"hf:{REPO}/{TARGET}"


def test_the_token_opens_a_closed_repository(hub: Hub, wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "secret"
    with pytest.raises(DownloadFailed, match="may not be read"):
        store.locate(wanted)
    monkeypatch.setenv("HF_TOKEN", "secret")
    files = store.locate(wanted[1:])
    store.fetch(files, silent)
    assert whole(files)


def test_offline_only_what_is_here_is_used(hub: Hub, wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    store.fetch(store.locate(wanted[1:]), silent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(hub.requests)
    assert store.locate(wanted[1:])[0].here
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        store.locate(wanted)
    assert len(hub.requests) == before


def test_no_network_is_said(wanted: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match="cannot be reached") as error:
        store.locate(wanted)
    assert error.value.exit_code == 5


def test_two_at_once_fetch_it_once(hub: Hub, wanted: Pair) -> None:
    hub.bytes_per_s = 20 << 20
    files = store.locate(wanted[:1])
    threads = [threading.Thread(target=store.fetch, args=(files, silent)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole(files) and len(hub.asked) == 1


# ---- Nothing wrong is fetched


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    return data.replace(old, new, 1)


def test_what_is_something_else_is_refused_before_it_is_fetched(
    hub: Hub, wanted: Pair, target: bytes, drafter: bytes
) -> None:
    hub.add(REPO, **{TARGET: drafter})
    with pytest.raises(RuntimeFailed, match="is no target: its architecture is 'gemma4-assistant'"):
        store.locate(wanted)
    hub.add(REPO, **{TARGET: target, DRAFTER: target})
    with pytest.raises(RuntimeFailed, match="is no drafter"):
        store.locate(wanted)
    old = renamed(drafter, b"gemma4-assistant", b"gemma4_assistant")
    hub.add(REPO, **{DRAFTER: old})
    with pytest.raises(RuntimeFailed, match=r"a format .gemma4_assistant. that llama.cpp does not load"):
        store.locate(wanted)
    assert hub.asked == []


def test_another_sizes_drafter_is_refused(hub: Hub, wanted: Pair) -> None:
    other = Wanted(role="drafter", repo=REPO, file=DRAFTER, size=1, width=5376)
    with pytest.raises(RuntimeFailed, match=f"a width of {wanted[1].width}, this model's is 5376"):
        store.locate([other])


# ---- What others have already


@pytest.mark.parametrize(
    ("place", "source"),
    [
        (f"home/.lmstudio/models/{REPO}/{TARGET}", "LM Studio"),
        (f"cache/llama.cpp/{REPO.replace('/', '_')}_{TARGET}", "llama.cpp"),
        (f"hf/hub/models--{REPO.replace('/', '--')}/snapshots/abc/{TARGET}", "Hugging Face cache"),
    ],
)
def test_files_of_other_programs_are_used(home: Path, place: str, source: str, wanted: Pair, target: bytes) -> None:
    path = home / place
    path.parent.mkdir(parents=True)
    path.write_bytes(target)
    [file] = store.locate(wanted[:1])
    assert (file.path, file.source) == (path, source)
    path.write_bytes(target[: len(target) // 2])
    assert shelves.find(REPO, TARGET, 1, lambda _: True) is None, "cut off"


def test_what_others_call_the_same_is_looked_into(hub: Hub, home: Path, wanted: Pair, drafter: bytes) -> None:
    """A file of another width, or of another kind, is not taken for its name or size."""
    path = home / f"home/.lmstudio/models/{REPO}/{TARGET}"
    path.parent.mkdir(parents=True)
    random_pair.write_target(path)
    assert store.locate(wanted[:1])[0].source == "download"
    path.write_bytes(drafter)
    assert store.locate(wanted[:1])[0].source == "download"


def test_ollamas_blobs_are_known_by_size(home: Path, target: bytes, width: int) -> None:
    digest = hashlib.sha256(target).hexdigest()
    models = home / "home" / ".ollama" / "models"
    blob = models / "blobs" / f"sha256-{digest}"
    manifest = models / "manifests" / "registry.ollama.ai" / "library" / "gemma4" / "demo"
    for path in (blob, manifest):
        path.parent.mkdir(parents=True)
    blob.write_bytes(target)
    (manifest.parent / "broken").write_text("{")
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(target)}
    manifest.write_text(json.dumps({"layers": [layer, {"mediaType": "application/vnd.ollama.image.license"}]}))
    size = len(target) + 2048 + (len(target) % 1000 == 0)
    meant = Wanted(role="target", repo="google/x", file="x.gguf", size=size, width=width)
    [file] = store.locate([meant])
    assert (file.path, file.source) == (blob, "Ollama")
