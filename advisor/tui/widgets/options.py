"""Textual's list of options, and its palette, guarded: paging through a list that is not laid out yet ends 8.x with a
`KeyError`, which a quick hand reaches in the palette."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette, DiscoveryHit, Hits
from textual.system_commands import SystemCommandsProvider
from textual.widgets import OptionList


def is_laid_out(options: OptionList) -> bool:
    """Whether it knows where its lines are."""
    return options.scrollable_content_region.width > 0


class Options(OptionList):
    """A list whose paging waits for its first layout."""

    def action_page_up(self) -> None:
        if is_laid_out(self):
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        if is_laid_out(self):
            super().action_page_down()  # type: ignore[no-untyped-call]


class Commands(SystemCommandsProvider):
    """In the order in which they are offered: by name, as Textual has them, the steps would be in the middle."""

    async def discover(self) -> Hits:
        for name, said, callback, shown in self.app.get_system_commands(self.screen):
            if shown:
                yield DiscoveryHit(name, callback, help=said)


class Palette(CommandPalette):
    """The palette with the same care."""

    def _action_command_list(self, action: str) -> None:
        if is_laid_out(self.query_one(CommandList)):
            super()._action_command_list(action)
