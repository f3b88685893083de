"""The wizard's own two themes; every colour elsewhere is a token of the theme in use."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="advisor-dark",
    primary="#7aa2f7",
    secondary="#bb9af7",
    accent="#7dcfff",
    success="#9ece6a",
    warning="#e0af68",
    error="#f7768e",
    foreground="#c8d0e8",
    background="#16161e",
    surface="#1d1f2b",
    panel="#262a3b",
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
    foreground="#2b3048",
    background="#f7f7fa",
    surface="#ececf2",
    panel="#dfe1ea",
    dark=False,
    variables={"footer-key-foreground": "#2e5cc5", "block-cursor-text-style": "bold"},
)

OWN = (DARK, LIGHT)
