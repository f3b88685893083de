"""Pictures of the wizard, drawn by the program itself: the README's, or all screens for looking at them.

python -m tests.tools.wizard_pictures                            # those of the README
python -m tests.tools.wizard_pictures /tmp 80x24 advisor-light   # all, in that folder, size and theme
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.tui.gallery import Picture, first_screens, last_screens
from tests.tui.scenes import MACHINE

OWN = Path(__file__).parents[1] / "pictures"
README = ("answer", "tune", "trying", "chat")
SIZE, THEME = "120x36", "advisor-dark"


def pictures(size: str, theme: str) -> dict[str, Picture]:
    """All of them."""
    return {**first_screens(MACHINE, size, theme), **last_screens(size, theme)}


def main() -> None:
    """Write the pictures."""
    folder, size, theme = (*sys.argv[1:], *(str(OWN), SIZE, THEME)[len(sys.argv) - 1 :])
    names = README if len(sys.argv) == 1 else ()
    with tempfile.TemporaryDirectory() as state:
        os.environ["GEMMA_ADVISOR_STATE"] = os.environ["GEMMA_ADVISOR_CONFIG"] = state
        for name, found in pictures(size, theme).items():
            if not names or name in names:
                (Path(folder) / f"wizard-{name}.svg").write_text(found.svg, encoding="utf-8")


if __name__ == "__main__":
    main()
