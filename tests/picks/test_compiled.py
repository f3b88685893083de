"""The compiled catalogue: the same as the profiles, and never in the way when it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advisor.knowledge import catalog, compiled
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import Bandwidth

OWN = Path(next(iter(catalog.profiles.__path__)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gemma-advisor" / compiled.NAME


def load(folder: Path, builder: Builder) -> Catalog:
    """The catalogue as `catalog.load` asks for it."""
    return compiled.load(folder, (Path(catalog.__file__),), Catalog, builder)


class Builder:
    """Builds the catalogue and counts how often."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self) -> Catalog:
        self.built += 1
        return catalog.build(OWN, "profiles")


def test_the_second_time_nothing_is_built_and_everything_is_equal(cache: Path) -> None:
    builder = Builder()
    first, second = load(OWN, builder), load(OWN, builder)
    assert builder.built == 1
    assert first == second
    assert type(second.devices["rtx-4090"].bandwidth) is Bandwidth
    assert list(cache.parent.iterdir()) == [cache], "nothing is left beside it"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: bytes(4) + data[4:],
        lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
        lambda data: b"\xff" * 100_000,
        lambda data: b"\x00\x00\x00\x00",
    ],
)
def test_a_damaged_one_is_made_again(cache: Path, damage: object) -> None:
    builder = Builder()
    load(OWN, builder)
    cache.write_bytes(damage(cache.read_bytes()))  # type: ignore[operator]
    load(OWN, builder)
    load(OWN, builder)
    assert builder.built == 2


def test_another_version_or_other_profiles_do_not_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder()
    load(OWN, builder)
    monkeypatch.setattr(compiled, "__version__", "9.9.9")
    load(OWN, builder)
    monkeypatch.undo()
    assert builder.built == 2


def test_a_changed_profile_counts_at_once(tmp_path: Path, cache: Path) -> None:
    import shutil

    folder = tmp_path / "profiles"
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns("demo", "measurements", "__pycache__"))
    builder = Builder()
    load(folder, builder)
    changed = folder / "models" / "e2b.yaml"
    os.utime(changed, ns=(1, 1))
    load(folder, builder)
    assert builder.built == 2


def test_no_place_for_a_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    builder = Builder()
    assert load(OWN, builder) == load(OWN, builder)
    assert builder.built == 2
