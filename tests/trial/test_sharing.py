"""Sharing: nothing private leaves, and nothing wrong comes in."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from advisor.errors import AdvisorError, ProfileError, RuntimeFailed
from advisor.knowledge import catalog
from advisor.prediction import measurements
from advisor.prediction.measurements import FileId
from advisor.trials import sharing
from tests.launch.conftest import advisor, ask
from tests.trial.examples import measurement

CATALOG = catalog.load()
FILE = next(quant for quant in CATALOG.model("12b").quants)
PUBLIC = FileId(name=FILE.file.rpartition("/")[2], size=int(FILE.bytes), mark="ab" * 8)


def shared(**fields: Any) -> measurements.Measurement:
    given = {
        "target": PUBLIC,
        "hardware": ("AMD Ryzen 7", "NVIDIA GeForce RTX 4090"),
        "verdict": "keep",
        "kind": "code",
    }
    return measurement(**given | fields)


def written(tmp_path: Path, *found: measurements.Measurement) -> Path:
    path = tmp_path / "mine.json"
    sharing.export(path, found, CATALOG)
    return path


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, shared(), shared(draft_tokens=3, acceptance=(0.9, 0.5)))
    jsonschema.validate(json.loads(path.read_text()), sharing.json_schema())
    found = sharing.read(path)
    assert [each.draft_tokens for each in found] == [0, 3]
    assert {each.source for each in found} == {"imported"}
    assert found[1].acceptance == (0.9, 0.5)


def test_nothing_private_is_written(tmp_path: Path) -> None:
    own = FileId(name="my-secret-finetune.gguf", size=1, mark="cd" * 8)
    path = written(
        tmp_path,
        shared(date="2026-11-23T17:34:56Z"),
        shared(target=own),
        shared(drafter=own),
        shared(source="launch", tokens_per_s=77.125),
        shared(source="calibration"),
        shared(source="imported"),
    )
    text = path.read_text()
    assert len(json.loads(text)["measurements"]) == 1
    for private in ("secret", "17:34", "77.125", str(Path.home()), "/"):
        assert private not in text.replace(sharing.SCHEMA, "")


def test_the_fields_are_chosen_one_by_one() -> None:
    assert set(sharing.Shared.__struct_fields__) < set(measurements.Measurement.__struct_fields__)
    assert {"source", "v"}.isdisjoint(sharing.Shared.__struct_fields__)


def test_nothing_to_share_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="nothing to share"):
        sharing.export(tmp_path / "x.json", [measurement(source="launch")], CATALOG)
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens_per_s", -1),
        ("tokens_per_s", 1e12),
        ("tokens_per_s", "fast"),
        ("date", "yesterday"),
        ("model", "a/b"),
        ("model", "x" * 200),
        ("build", "line\nbreak"),
        ("acceptance", [2.0]),
        ("acceptance", [0.5] * 100),
        ("draft_tokens", 1000),
        ("verdict", "perhaps"),
        ("machine", "not a hash"),
        ("high", 1.0),
        ("memory_bytes", -5),
        ("surprise", 1),
        ("target", {"name": "../../etc/passwd", "size": 1, "mark": ""}),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_kept(tmp_path: Path, store: Path, field: str, value: object) -> None:
    path = written(tmp_path, shared())
    document = json.loads(path.read_text())
    document["measurements"][0][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ProfileError):
        sharing.take_in(path)
    assert measurements.recall() == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema": "advisor.measurements/2", "measurements": []}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError):
        sharing.read(path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b" " * (sharing.LARGEST + 1))
    with pytest.raises(ProfileError, match="larger than"):
        sharing.read(path)


def test_damaged_files_are_refused_or_read_but_never_break(tmp_path: Path) -> None:
    path = written(tmp_path, *[shared(low=20.0, high=40.0, gain=1.5, gain_low=1.2, gain_high=1.8)] * 2)
    good, chance, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(600):
        content = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(content))
            content[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        path.write_bytes(content)
        try:
            found = sharing.read(path)
        except AdvisorError as error:
            refused += 1
            assert len(error.message) < 300
        else:
            assert all(one.source == "imported" and one.model.isprintable() for one in found)
    assert refused > 300


def test_the_commands(tmp_path: Path, store: Path) -> None:
    measurements.keep(shared(), shared(draft_tokens=2))
    path = tmp_path / "mine.json"
    assert ask("trial", "--export", str(path))["exported"] == 2
    assert ask("trial", "--forget")["forgotten"] == 2
    assert ask("trial", "--import", str(path))["imported"] == 2
    assert ask("trial", "--import", str(path))["imported"] == 0  # it is known already
    assert {each.source for each in measurements.recall()} == {"imported"}
    assert advisor("trial", "--history").returncode == 0
    path.write_text("{}")
    refused = advisor("trial", "--import", str(path), "--json")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["error"]["code"] == "profile"


def test_the_format_document_names_every_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "measurements.md").read_text(encoding="utf-8")
    for name in (*sharing.Shared.__struct_fields__, *sharing.SharedFile.__struct_fields__):
        assert f"`{name}`" in text, name
    example = text.split("```json\n", 1)[1].split("```", 1)[0]
    msgspec.json.decode(example, type=sharing.SharedDocument)
