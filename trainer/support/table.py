"""Text tables for the terminal and for Markdown."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Console
from rich.table import Table as RichTable

from ...respodiff_core.plain_text import plain
from .untrusted_text import markdown


@dataclass(frozen=True)
class Table:
    """A header and rows with the same number of cells; None is an empty cell."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    def without_empty_columns(self) -> Table:
        """The table without columns that are empty in all rows."""
        kept = [n for n in range(len(self.head)) if any(row[n] not in ("", None) for row in self.rows)]
        return Table([self.head[n] for n in kept], [[row[n] for n in kept] for row in self.rows])

    def transposed(self) -> Table:
        """The table with rows and columns swapped."""
        head, *rows = zip(self.head, *self.rows, strict=True)
        return Table(list(map(str, head)), rows)

    def in_markdown(self) -> Markup:
        """The table in Markdown, with all texts escaped."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = [[Markup(cell) if n == 1 else cell for cell in line] for n, line in enumerate(lines)]
        return Markup("\n".join("| " + " | ".join(map(markdown, line)) + " |" for line in cells))

    def in_terminal(self) -> str:
        """The table as wide as the terminal (100 columns if there is none), without colours."""
        drawn = RichTable(*map(plain, self.head), box=None, pad_edge=False)
        for row in self.rows:
            drawn.add_row(*("" if cell is None else plain(str(cell)) for cell in row))
        file = io.StringIO()
        width = shutil.get_terminal_size((100, 24)).columns
        Console(file=file, width=width, markup=False, highlight=False, force_terminal=False).print(drawn)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
