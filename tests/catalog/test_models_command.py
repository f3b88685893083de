"""`advisor models` as a user types it."""

from __future__ import annotations

import json

import pytest

from advisor.cli import run

MODELS = ["e2b", "e4b", "12b", "26b", "31b"]


def typed(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = run(["models", *argv])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("argv", [(), *((name,) for name in MODELS)])
@pytest.mark.parametrize("columns", ["80", "200"])
def test_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = typed(capsys, *argv)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_the_table_names_all_models(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed(capsys)
    assert [line.split()[0] for line in out.splitlines()[1:6]] == MODELS


def test_one_model_shows_files_drafter_and_sources(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = typed(capsys, "26B")
    for text in ("QAT-UD-Q4_K_XL", "14.2 GB", "gemma-4-26B-A4B-it-qat-UD-Q4_K_XL.gguf", "252 MB", "llama.cpp#23398"):
        assert text in out


def test_json_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(capsys, "--json")
    document = json.loads(out)
    assert (code, err, document["schema"]) == (0, "", "advisor.models/1")
    assert [model["id"] for model in document["models"]] == MODELS


def test_json_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed(capsys, "e2b", "--json")
    (model,) = json.loads(out)["models"]
    assert model["quants"][0]["bytes"] == 2_620_370_976
    assert model["drafter"]["files"][0]["qat"] is True


def test_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(capsys, "27b")
    assert (code, out) == (2, "")
    assert "26b" in err


def test_unknown_model_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "27b", "--json")
    assert code == 2
    assert json.loads(out)["error"]["code"] == "usage"


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "--help")
    assert code == 0
    assert "advisor models 26b" in out
