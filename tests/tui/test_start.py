"""How the wizard opens: what it imports and when, what it remembers, and what pipes get instead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.errors import UsageError
from advisor.tui import settings
from advisor.tui.app import Wizard
from advisor.tui.settings import Settings
from tests.tui.drive import drive, settled, text
from tests.tui.terminal import advisor
from tests.tui.world import services

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "settings"
    found.mkdir()
    monkeypatch.setenv("GEMMA_ADVISOR_CONFIG", str(found))
    return found


# ---- Settings


def test_no_file_is_fine(folder: Path) -> None:
    assert settings.load() == Settings()


def test_what_is_saved_is_loaded(folder: Path) -> None:
    kept = Settings(theme="nord", use_case="coding", prefer="speed")
    settings.save(kept)
    assert settings.load() == kept
    assert [path.name for path in folder.iterdir()] == ["wizard.toml"]


def test_the_environment_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.save(Settings(theme="nord"))
    monkeypatch.setenv("GEMMA_ADVISOR_THEME", "dracula")
    monkeypatch.setenv("GEMMA_ADVISOR_USE_CASE", "agents")
    assert settings.load() == Settings(theme="dracula", use_case="agents")


@pytest.mark.parametrize("content", ["theme = ", 'colour = "red"', "theme = 3", 'prefer = "both"', "\x00"])
def test_a_broken_file_names_itself(folder: Path, content: str) -> None:
    (folder / "wizard.toml").write_text(content)
    with pytest.raises(UsageError) as raised:
        settings.load()
    assert "wizard.toml" in raised.value.message
    assert raised.value.hint


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    (folder / "file").write_text("")
    os.environ["GEMMA_ADVISOR_CONFIG"] = str(folder / "file" / "below")
    with pytest.raises(UsageError, match="cannot be written"):
        settings.save(Settings())


def test_every_setting_has_a_sentence() -> None:
    source = Path(settings.__file__).read_text(encoding="utf-8")
    for name in Settings.__struct_fields__:
        assert re.search(rf'    {name}: [^\n]+\n    """[A-Z`]', source), name


def test_the_readme_lists_every_setting_with_its_default_and_its_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(GEMMA_ADVISOR_\w+)` \| ", readme, re.MULTILINE)
    defaults = {name: f"`{value}`" if value else "the use case's own" for name, value in vars_of(Settings()).items()}
    assert {name: default for name, default, _ in rows} == defaults
    others = {"theme": "nord", "use_case": "coding", "prefer": "speed"}
    for name, _, variable in rows:
        monkeypatch.setenv(variable, others[name])
    assert vars_of(settings.load()) == others


def vars_of(found: Settings) -> dict[str, str | None]:
    return {name: getattr(found, name) for name in Settings.__struct_fields__}


def test_a_theme_is_remembered(folder: Path) -> None:
    app = Wizard(services=services("rtx-4090"), options=settings.load())

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        app.theme = "nord"
        await settled(pilot)

    drive(app, script)
    assert settings.load().theme == "nord"


def test_an_unknown_theme_and_use_case_do_not_keep_it_from_opening(folder: Path) -> None:
    app = Wizard(services=services("rtx-4090"), options=Settings(theme="beige", use_case="knitting"), remember=False)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert app.theme == "advisor-dark"
        assert "knitting" in text(app)

    drive(app, script)


# ---- Imports


def test_textual_is_imported_below_tui_only() -> None:
    for path in (ROOT / "advisor").rglob("*.py"):
        if "tui" not in path.parts:
            assert not re.search(r"^\s*(from|import) textual", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_the_state_and_the_plain_wizard_need_no_textual() -> None:
    code = "import sys, advisor.tui.state, advisor.tui.plain, advisor.tui.entry; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_first_screen_imports_only_itself() -> None:
    """What it imports is what the first paint waits for."""
    code = "import sys, advisor.tui.app, advisor.tui.screens.answer; print(*sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(shown.stdout.split())
    assert not imported & {
        "httpx",
        "huggingface_hub",
        "numpy",
        "gguf",
        "llama_cpp",
        "starlette",
        "textual.widgets._markdown",
    }
    assert not {name for name in imported if name.startswith("advisor.tui.screens.")} - {"advisor.tui.screens.answer"}


# ---- Without a terminal


def test_a_pipe_gets_what_to_type() -> None:
    shown = advisor()
    assert shown.returncode == 0
    assert "advisor recommend" in shown.stdout
    assert "\x1b" not in shown.stdout
