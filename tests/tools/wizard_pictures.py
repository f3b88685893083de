"""Pictures of the wizard, drawn by the program itself: the README's, or one screen at any size for looking at it.

python -m tests.tools.wizard_pictures                            # those of the README
python -m tests.tools.wizard_pictures /tmp 80x24 advisor-light   # all, in that folder, size and theme
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from advisor.tui.app import Wizard
from tests.tui.drive import press, settled
from tests.tui.scenes import MACHINE, SCENES
from tests.tui.world import SIZES, wizard

OWN = Path(__file__).parents[1] / "pictures"
README = ("answer", "tune", "trying", "chat")
KEYS = {"answer": (), "tune": ("t", "tab", "tab", "tab")}


async def shown(app: Wizard, pilot: Pilot[Any], name: str) -> None:
    """Bring the app to that screen."""
    await settled(pilot)
    if name in SCENES:
        await SCENES[name](app, pilot)
    else:
        await press(pilot, *KEYS[name])
    await settled(pilot)


async def picture(path: Path, name: str, size: tuple[int, int], theme: str) -> None:
    """Write one."""
    app = wizard(MACHINE, theme=theme)
    async with app.run_test(size=size) as pilot:
        await shown(app, pilot, name)
        path.write_text(app.export_screenshot(title="advisor"), encoding="utf-8")
        app.live = None


def main() -> None:
    """Write the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else OWN
    size = SIZES[sys.argv[2] if len(sys.argv) > 2 else "120x36"]
    theme = sys.argv[3] if len(sys.argv) > 3 else "advisor-dark"
    names = (*KEYS, *SCENES) if len(sys.argv) > 1 else README
    with tempfile.TemporaryDirectory() as state:
        os.environ["GEMMA_ADVISOR_STATE"] = os.environ["GEMMA_ADVISOR_CONFIG"] = state
        for name in names:
            asyncio.run(picture(folder / f"wizard-{name}.svg", name, size, theme))


if __name__ == "__main__":
    main()
