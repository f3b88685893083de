"""Profiles that do not say what they must: one typed error that names the file and the key."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from advisor.errors import ProfileError
from advisor.knowledge.catalog import load

E2B, NVIDIA, USES = "models/e2b.yaml", "devices/nvidia.yaml", "use_cases.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped profiles, to spoil."""
    target = tmp_path / "profiles"
    with as_file(files("profiles")) as source:
        for name in ("models", "devices"):
            shutil.copytree(source / name, target / name)
        for name in ("use_cases.yaml", "runtimes.yaml"):
            shutil.copy(source / name, target)
    return target


def spoil(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def failure(folder: Path) -> str:
    with pytest.raises(ProfileError) as caught:
        load(folder)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
    return caught.value.message


def test_an_untouched_copy_loads(folder: Path) -> None:
    assert load(folder) == load()


@pytest.mark.parametrize(
    ("file", "old", "new", "key", "problem"),
    [
        (E2B, "bytes: 2620370976", "bytes: 24 GB/s", "quants[0].bytes", "'GB/s' is not a unit of size"),
        (E2B, "bytes: 2620370976", "bytes: lots", "quants[0].bytes", "not a size"),
        (E2B, "bytes: 2620370976", "bytes: -5", "quants[0].bytes", "above zero"),
        (E2B, "bytes: 2620370976", "bytes: 0", "quants[0].bytes", "above zero"),
        (E2B, "bytes: 2620370976", "bytes: 2.5", "quants[0].bytes", "not a size"),
        (E2B, "bytes: 2620370976", "bytes: true", "quants[0].bytes", "not a size"),
        (E2B, "bytes: 2620370976", "bytes:", "quants[0].bytes", "not a size"),
        (E2B, "bytes: 2620370976", "bytes: 26 GB", "quants[0].bytes", "bits per weight"),
        (E2B, "bytes: 59235648", "bytes: 59 kB", "drafter.files[0].bytes", "bits per weight"),
        (E2B, "  layers: 35", "  layers: many", "architecture.layers", "Expected `int`"),
        (E2B, "  layers: 35", "  layers: 0", "architecture.layers", ">= 1"),
        (E2B, "  layers: 35", "  layers: 36", "architecture.kv_own_global", "16 layers"),
        (E2B, "  layers: 35\n", "", "architecture.layers", "missing"),
        (E2B, "  layers: 35", "  layers: 35\n  colour: red", "architecture.colour", "unknown key"),
        (E2B, "  layers: 35", "  layers: 35\n  layers: 36", "architecture.layers", "given twice"),
        (E2B, "quality: 0.965", "quality: 1.5", "quants[0].quality", "<= 1"),
        (E2B, "quality: 0.965", "quality: .nan", "quants[0].quality", "not a finite number"),
        (E2B, "quality: 0.965", "quality: -.inf", "quants[0].quality", "not a finite number"),
        (E2B, "quality: 0.965", 'quality: "0.9"', "quants[0].quality", "Expected `float`"),
        (E2B, "name: QAT-Q4_0", "name: QAT-UD-Q4_K_XL", "quants[1].name", "already"),
        (E2B, "chat: 0.47", "chat: 64", "drafter.acceptance", "<= 1"),
        (E2B, "chat: 0.47, ", "", "use_cases[0].output_kind", "'chat'"),
        (USES, "comfort_tokens_per_s: 34", "comfort_tokens_per_s: 3", "use_cases[0].comfort_tokens_per_s", "the floor"),
        (USES, "models: [e2b, e4b]", "models: [e2b, 7b]", "use_cases[7].advice.models", "'7b'"),
        (E2B, "id: e2b", "id: e4b", "id", "already"),
        (E2B, "id: e2b", "id: 26", "id", "Expected `str`"),
        (E2B, "id: e2b", 'id: " "', "id", "must not be empty"),
        (E2B, "modalities: [text, image", "modalities: [text, smell", "modalities", "smell"),
        (E2B, 'released: "2026-04-02"', "released: 2026-04-02", "released", "timestamp"),
        (E2B, "id: e2b", "id: &anchor e2b\nalso: [*anchor]", "also", "unknown key"),
        (NVIDIA, "bandwidth: 1792 GB/s", "bandwidth: 1792 GB", "groups[0].devices[0].bandwidth", "'GB' is not a unit"),
        (NVIDIA, "memory: [32 GiB]", "memory: [32 GiB/s]", "groups[0].devices[0].memory[0]", "not a unit of size"),
        (NVIDIA, "memory: [32 GiB]", "memory: []", "groups[0].devices[0].memory", "at least one"),
        (NVIDIA, "memory: [32 GiB]", "memory: 32 GiB", "groups[0].devices[0].memory", "Expected `array`"),
        (NVIDIA, "id: rtx-5080,", "id: rtx-5090,", "groups[0].devices[1].id", "already"),
        (NVIDIA, "name: GeForce RTX 5080,", "name: NVIDIA RTX 5090,", "groups[0].devices[1].name", "already"),
        (NVIDIA, "vendor: nvidia", "vendor: nvida", "groups[0].devices[0].vendor", "nvida"),
        (NVIDIA, "kind: gpu", "kinds: gpu", "groups[0].kinds", "unknown key"),
        (NVIDIA, "compute_tflops: 209.5", "compute_tflops: 0", "groups[0].devices[0].compute_tflops", "> 0"),
        (NVIDIA, "compute_tflops: 209.5", "tflops: 209.5", "groups[0].devices[0].tflops", "unknown key"),
        (USES, "{mmlu_pro: 0.5,", "{mmlu: 0.5,", "use_cases[0].weights.mmlu", "no model"),
        (USES, "output_kind: code", "output_kind: poetry", "use_cases[1].output_kind", "'poetry'"),
        (USES, "id: coding", "id: chat", "use_cases[1].id", "already"),
        (USES, "min_tokens_per_s: 8", "min_tokens_per_s: 0", "use_cases[0].min_tokens_per_s", "> 0"),
        (USES, "concurrent_users: 4", "concurrent_users: 0.5", "use_cases[9].concurrent_users", "Expected `int`"),
    ],
)
def test_each_mistake_names_file_and_key(  # noqa: PLR0917
    folder: Path, file: str, old: str, new: str, key: str, problem: str
) -> None:
    spoil(folder, file, old, new)
    message = failure(folder)
    assert message.startswith(f"{folder}/")
    where, _, rest = message.removeprefix(f"{folder}/").partition(": ")
    assert where == (USES if key.startswith("use_cases") else file if problem != "already" else where)
    assert rest.startswith(key)
    assert problem in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"id: [e2b", "not valid YAML"),
        (b"id: e2b\n\tname: x", "not valid YAML"),
        (b"id: a\n---\nid: b", "not valid YAML"),
        (b"name: \xff\xfe", "byte 6: not UTF-8"),
        (b"", "missing"),
        (b"- e2b", "Expected `object`"),
        (b"just words", "Expected `object`"),
        (b"? [a, b]\n: c", "a key must be a plain word"),
        (b"id: !!python/object:os.system x", "not supported"),
        (b"<<: {id: x}", "unknown key"),
        (b"a: &x [1]\nb: *x", "aliases are not supported"),
        (b"a: &x [*x]", "aliases are not supported"),
        (b"[" * 5000, ""),
        (b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"- " * 5000 + b"x", ""),
        (b"[" * 300_000, "larger than"),
        (b"id: 0x1F", "not a plain number"),
        (b"id: \x00", ""),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_broken_files(folder: Path, content: bytes, problem: str) -> None:
    (folder / E2B).write_bytes(content)
    message = failure(folder)
    assert message.startswith(f"{folder}/models/e2b.yaml: ")
    assert problem in message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "models" in failure(tmp_path / "nowhere")


def test_a_folder_without_models(folder: Path) -> None:
    for file in (folder / "models").iterdir():
        file.unlink()
    assert "no .yaml file" in failure(folder)


def test_missing_use_cases(folder: Path) -> None:
    (folder / USES).unlink()
    assert "use_cases.yaml" in failure(folder)


def test_shipped_files_are_called_by_their_place_in_the_package(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    import advisor.knowledge.catalog as module

    spoil(folder, E2B, "bytes: 2620370976", "bytes: 24 GB/s")
    monkeypatch.setattr(module.profiles, "__path__", [str(folder)])
    module.load_folder.cache_clear()
    try:
        with pytest.raises(ProfileError, match=r"^profiles/models/e2b\.yaml: quants\[0\]\.bytes: "):
            load()
    finally:
        module.load_folder.cache_clear()
