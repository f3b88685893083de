"""How far something is: a bar, and what goes on."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive

from advisor.tui.widgets.drawn import Drawn


class Gauge(Drawn):
    """Nothing until something is said."""

    share: reactive[float] = reactive(0.0)
    said: reactive[str] = reactive("", layout=True)

    def draw(self, width: int) -> Content:
        if not self.said:
            return Content("")
        full = round(width * min(1.0, self.share))
        bar = Content.assemble(("━" * full, "$success"), ("─" * (width - full), "$foreground-disabled"))
        return Content("\n").join([bar, Content.styled(self.said, "$foreground-muted").truncate(width, ellipsis=True)])
