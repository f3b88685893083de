"""The wizard's own two themes; every colour elsewhere is a token of the theme in use.

The grounds are nearly grey: a terminal of 256 colours has greys for them, and would show anything bluer as navy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from textual.filter import LineFilter, Monochrome, NoColor
from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="advisor-dark",
    primary="#7aa2f7",
    secondary="#bb9af7",
    accent="#7dcfff",
    success="#9ece6a",
    warning="#e0af68",
    error="#f7768e",
    foreground="#ced1da",
    background="#16171c",
    surface="#1e2026",
    panel="#282b33",
    dark=True,
    variables={"footer-key-foreground": "#7aa2f7", "block-cursor-text-style": "bold"},
)

LIGHT = Theme(
    name="advisor-light",
    primary="#2e5cc5",
    secondary="#7847bd",
    accent="#007197",
    success="#3f7a2e",
    warning="#8f5e15",
    error="#c3324c",
    foreground="#2a2c33",
    background="#f8f8f9",
    surface="#eeeef0",
    panel="#e1e2e6",
    dark=False,
    variables={"footer-key-foreground": "#2e5cc5", "block-cursor-text-style": "bold"},
)

OWN = (DARK, LIGHT)
COLOURLESS = "ansi-dark"
"""Has the terminal's own colours of text and ground, which fit each other on light and on dark."""


def first_theme(wanted: str) -> str:
    """The theme to begin with: the one that is wanted, where it is known and colours may be used."""
    if "NO_COLOR" in os.environ:
        return COLOURLESS
    return wanted if wanted in BUILTIN_THEMES else next((own.name for own in OWN if own.name == wanted), DARK.name)


def colourless(filters: Iterable[LineFilter]) -> list[LineFilter]:
    """Filters without the one that makes greys of colours: of a terminal's own colours it makes black on black."""
    return [NoColor() if isinstance(one, Monochrome) else one for one in filters]
