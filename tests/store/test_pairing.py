"""A target of the user's own gets the drafter that is here: found wherever it is kept, checked, QAT with QAT."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from advisor.choice import subject
from advisor.commands import launch
from advisor.errors import RuntimeFailed
from advisor.files import pairing
from advisor.knowledge import catalog
from advisor.running import launching
from advisor.running.order import Order
from tests.bench.memory import write_pair
from tests.engine import random_pair

QAT_REPO = "models--unsloth--gemma-4-demo-it-qat-GGUF"
PLAIN_REPO = "models--unsloth--gemma-4-demo-it-GGUF"


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def own(home: Path, target: bytes) -> Path:
    """The user's own model, alone in its folder."""
    return put(home / "mine" / "model.gguf", target)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("mine/anything.gguf", "same folder"),
        ("mine/MTP/gemma-4-demo-it-MTP-Q8_0.gguf", "same folder"),
        (f"hf/hub/{PLAIN_REPO}/snapshots/abc/mtp-x.gguf", "Hugging Face cache"),
        (f"hf/hub/{PLAIN_REPO}/snapshots/abc/MTP/x.gguf", "Hugging Face cache"),
        ("home/.lmstudio/models/someone/some-repo/x.gguf", "LM Studio"),
        ("cache/llama.cpp/someone_some-repo_x.gguf", "llama.cpp"),
    ],
)
def test_found_where_programs_keep_files(home: Path, own: Path, drafter: bytes, place: str, source: str) -> None:
    assert pairing.find(own) is None
    path = put(home / place, drafter)
    found = pairing.find(own)
    assert found is not None and (found.path, found.source) == (path, source)
    assert found.words == f"{path.name} ({source})"
    put(path, drafter[:-1000])
    assert pairing.find(own) is None, "cut off"


def test_found_among_ollamas_blobs(home: Path, own: Path, drafter: bytes) -> None:
    digest = hashlib.sha256(drafter).hexdigest()
    models = home / "home" / ".ollama" / "models"
    blob = put(models / "blobs" / f"sha256-{digest}", drafter)
    layer = {"mediaType": "application/vnd.ollama.image.draft", "digest": f"sha256:{digest}", "size": len(drafter)}
    put(models / "manifests" / "registry.ollama.ai" / "library" / "my-gemma" / "latest",
        json.dumps({"layers": [layer]}).encode())  # fmt: skip
    found = pairing.find(own)
    assert found is not None and (found.path, found.source) == (blob, "Ollama")


def test_what_does_not_belong_to_it_is_passed_over(home: Path, own: Path, drafter: bytes, target: bytes) -> None:
    folder = own.parent
    random_pair.write_drafter(folder / "mtp-other-width.gguf", backbone=1536)
    put(folder / "mtp-by-name-only.gguf", target)
    put(folder / "mtp-old-spelling.gguf", drafter.replace(b"gemma4-assistant", b"gemma4_assistant", 1))
    put(folder / "mtp-garbage.gguf", b"gemma4-assistant" * 100)
    assert pairing.find(own) is None
    assert pairing.find(folder / "mtp-garbage.gguf") is None, "nothing is found for what is no Gemma 4"
    (folder / "named-like-no-drafter.gguf").symlink_to(put(home / "x", drafter))
    found = pairing.find(own)
    assert found is not None and found.path.name == "named-like-no-drafter.gguf", "known by its header"


def test_qat_with_qat(home: Path, target: bytes, drafter: bytes) -> None:
    hub = home / "hf" / "hub"
    qat = put(hub / QAT_REPO / "snapshots" / "1" / "mtp-gemma-4-demo-it.gguf", drafter)
    plain = put(hub / PLAIN_REPO / "snapshots" / "1" / "mtp-gemma-4-demo-it.gguf", drafter + b"\0" * 64)
    for folder, wanted in ((QAT_REPO, qat), (PLAIN_REPO, plain)):
        model = put(home / "elsewhere" / folder.rpartition("--")[2] / "model.gguf", target)
        found = pairing.find(model)
        assert found is not None and (found.path, found.alike, found.note) == (wanted, True, "")
    plain.unlink()
    found = pairing.find(model)
    assert found is not None and found.path == qat and found.alike is False and "QAT" in found.words, "said, and used"


def test_names_and_metadata_tell_of_qat(home: Path, target: bytes, drafter: bytes) -> None:
    kinds = {
        "a/gemma-4-12B-it-qat-UD-Q4_K_XL.gguf": True,
        "a/model.gguf": None,
        "unsloth/gemma-4-12B-it-GGUF/model.gguf": False,
        "unsloth/gemma-4-12B-it-qat-GGUF/MTP/model.gguf": True,
    }
    from advisor.files import gguf

    for place, kind in kinds.items():
        assert pairing.is_qat(gguf.read(put(home / place, target))) is kind, place
    named = drafter.replace(b"advisor demo drafter", b"advisor QAT  drafter", 1)
    assert pairing.is_qat(gguf.read(put(home / "m.gguf", named))) is True


def test_launch_uses_it_and_says_so(home: Path, own: Path, drafter: bytes) -> None:
    order = Order(model=str(own), backend="native")
    alone = launching.configure(order)
    assert alone.model.drafter is None and "none that belongs to it is here" in alone.drafter_reason
    path = put(own.with_name("mtp.gguf"), drafter)
    setup = launching.configure(order)
    assert setup.model.drafter == path and setup.model.draft_tokens
    assert launch.file_lines(setup) == [
        "target    model.gguf, 13.9 MB, here (given)",
        "drafter   mtp.gguf, 1.47 MB, here (same folder)",
    ]
    plain = launching.configure(Order(model=str(own), backend="native", use_drafter=False))
    assert plain.model.drafter is None and len(plain.files) == 1


def test_one_that_is_given_is_checked(home: Path, own: Path, drafter: bytes) -> None:
    given = put(home / "unsloth" / "gemma-4-demo-it-qat-GGUF" / "mtp.gguf", drafter)
    mine = put(home / "unsloth" / "gemma-4-demo-it-GGUF" / "model.gguf", own.read_bytes())
    setup = launching.configure(Order(model=str(mine), backend="native", drafter=given))
    assert setup.model.drafter == given
    said = ["drafter   mtp.gguf, 1.47 MB, here (given)", f"          {pairing.UNLIKE}"]
    assert launch.file_lines(setup)[1:] == said
    other = home / "other.gguf"
    random_pair.write_drafter(other, backbone=1536)
    for wrong, said in ((other, "1536 .E2B."), (own, "is no drafter"), (home / "none.gguf", "no file")):
        with pytest.raises(RuntimeFailed, match=said):
            launching.configure(Order(model=str(mine), backend="native", drafter=wrong))


def test_one_that_is_given_for_a_size_of_the_catalogue(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model = catalog.load().model("e2b")
    pair = write_pair(home, model, "Q4_0", pure=True)
    quant = next(quant for quant in model.quants if quant.qat)
    for repository, note in (("x-it-GGUF", pairing.UNLIKE), ("x-it-qat-GGUF", "")):
        given = home / repository / "mtp.gguf"
        given.parent.mkdir()
        given.symlink_to(pair.drafter)
        order = Order(model="e2b", quant=quant.name, backend="native", drafter=given)
        setup = launching.configure(order, strict=False)
        assert setup.model.drafter == given and [file.role for file in setup.files] == ["target", "drafter"]
        assert (setup.files[1].source, setup.files[1].note) == ("given", note)
    with pytest.raises(RuntimeFailed, match=r"2560 \(E4B\)"):
        launching.configure(Order(model="e2b", backend="native", drafter=_wide(home, 2560)), strict=False)


def _wide(home: Path, width: int) -> Path:
    path = home / f"wide-{width}.gguf"
    random_pair.write_drafter(path, backbone=width)
    return path


def test_the_catalogues_drafters_are_qat_where_their_targets_are() -> None:
    for model in catalog.load().models.values():
        for quant in model.quants:
            draft = subject.usual_draft(subject.from_catalogue(model, quant.name))
            assert draft is not None
            assert draft.file.qat == quant.qat or not any(file.qat == quant.qat for file in model.drafter.files)
