"""Everything that was considered: what runs with its figures, what does not with the reason. Sorted by a column."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from advisor.choice.candidates import Candidate, Rejected
from advisor.choice.ranking import Ranking
from advisor.memory.placement import in_words
from advisor.pages.terminal import rate

WHERE = {"gpu": "GPU", "cpu": "CPU", "split": "GPU + CPU", "experts-on-cpu": "GPU + CPU"}
CODES = {"memory": "too large", "speed": "too slow", "capability": "unable", "backend": "backend"}
NUMBERS = ("speed", "memory", "quality")
COLUMNS = {
    "order": "",
    "model": "Model",
    "file": "File",
    "speed": "tok/s",
    "memory": "Memory",
    "quality": "Quality",
    "drafter": "Drafter",
    "where": "Fit",
}


class Row(NamedTuple):
    """One file of the catalogue here. `candidate` is None where it does not run, and `reason` says why."""

    model: str
    quant: str
    name: str
    candidate: Candidate | None
    fit: str
    reason: str


class CandidateTable(DataTable[Text]):
    """Rows are chosen with Enter or a click; `o` and a click on a heading sort."""

    HELP = """
Every file of the catalogue on this machine. **●** is what would run now, **✓** runs too, **✗** does not; the line below
says why. **Enter** takes the file under the cursor instead of the pick, `d` shows it in detail, `o` or a click on a
heading sorts, `u` returns to the pick.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", "First", show=False),
        Binding("end", "scroll_bottom", "Last", show=False),
        Binding("o", "sort", "Sort", tooltip="By the next column; a click on a heading does the same"),
    ]

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, cell_padding=1)
        self.rows_shown: list[Row] = []
        self.by = "order"
        self.known: list[Row] = []
        self.chosen: tuple[str, str] = ("", "")

    def on_mount(self) -> None:
        for key, title in COLUMNS.items():
            self.add_column(title, key=key)

    @property
    def row(self) -> Row | None:
        """The one under the cursor."""
        return self.rows_shown[self.cursor_row] if 0 <= self.cursor_row < len(self.rows_shown) else None

    def show(self, field: Ranking, chosen: Candidate | None) -> None:
        """Show a ranking; the cursor stays on its file."""
        self.known = rows(field)
        self.chosen = (chosen.model.id, chosen.quant.name) if chosen else ("", "")
        self.fill()

    def action_sort(self) -> None:
        """By the next column."""
        keys = list(COLUMNS)
        self.sort_by(keys[(keys.index(self.by) + 1) % len(keys)])

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        self.sort_by(str(event.column_key.value))

    def sort_by(self, column: str) -> None:
        """By that column, what does not run always last."""
        self.by = column
        self.fill()

    def fill(self) -> None:
        held = self.row
        self.rows_shown = ordered(self.known, self.by)
        self.clear()
        for key, column in zip(COLUMNS, self.ordered_columns, strict=True):
            title = COLUMNS[key] + (" ▾" if key == self.by and key != "order" else "")
            column.label = Text(title, justify="right" if key in NUMBERS else "left")
        for row in self.rows_shown:
            self.add_row(*cells(row, self.chosen), key=f"{row.model}/{row.quant}")
        places = [(row.model, row.quant) for row in self.rows_shown]
        wanted = (held.model, held.quant) if held else self.chosen
        if wanted in places:
            self.move_cursor(row=places.index(wanted))


def rows(field: Ranking) -> list[Row]:
    """What runs, the best first, then what does not, the nearest first."""
    runs = [
        Row(
            one.model.id,
            one.quant.name,
            one.model.name.removeprefix("Gemma 4 "),
            one,
            WHERE[one.placement.mode],
            one.drafter.reason,
        )
        for one in field.running
    ]
    return runs + [rejected(one) for one in field.rejected]


def rejected(one: Rejected) -> Row:
    return Row(one.model, one.quant, one.model.upper(), None, CODES[one.code], one.reason)


def ordered(known: list[Row], by: str) -> list[Row]:
    """Numbers from the highest down, but memory from the least up; names from A on."""

    def figure(one: Candidate) -> tuple[float, str]:
        memory = one.placement.device_bytes + one.placement.host_bytes
        numbers = {"speed": -one.speed.decode, "memory": memory, "quality": -one.quality}
        words = {"model": one.model.id, "file": one.quant.name, "where": one.placement.mode}
        return numbers.get(by, 0.0), str(not one.drafter.enabled) if by == "drafter" else words.get(by, "")

    runs = [row for row in known if row.candidate]
    rest = [row for row in known if not row.candidate]
    if by == "order":
        return runs + rest
    if by in ("model", "file", "where"):
        rest.sort(key=lambda row: {"model": row.model, "file": row.quant, "where": row.fit}[by])
    return sorted(runs, key=lambda row: figure(row.candidate) if row.candidate else (0.0, "")) + rest


def cells(row: Row, chosen: tuple[str, str]) -> list[Text]:
    """One row as it is shown."""
    one = row.candidate
    if one is None:
        return [Text(said, "dim") for said in ("✗", row.name, row.quant, "", "", "", "", row.fit)]
    mark = Text("●") if (row.model, row.quant) == chosen else Text("✓")
    memory = one.placement.device_bytes + one.placement.host_bytes
    drafter = f"{one.speed.drafter_gain:.2f}x" if one.drafter.enabled else "no"
    return [
        mark,
        Text(row.name),
        Text(row.quant),
        Text(rate(one.speed.decode), justify="right"),
        Text(in_words(memory), justify="right"),
        Text(f"{one.quality:.0f}", justify="right"),
        Text(drafter),
        Text(row.fit),
    ]
