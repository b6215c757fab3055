"""Tables of texts, in the terminal and in Markdown."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Console
from rich.table import Table as Drawn

from ...respodiff_core.plain_text import plain
from .untrusted_text import markdown


@dataclass(frozen=True)
class Table:
    """A head and rows of as many cells; texts stand for themselves, None for an empty one."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    def without_empty_columns(self) -> Table:
        """Only columns in which something is said."""
        kept = [n for n in range(len(self.head)) if any(row[n] not in ("", None) for row in self.rows)]
        return Table([self.head[n] for n in kept], [[row[n] for n in kept] for row in self.rows])

    def transposed(self) -> Table:
        """Rows as columns, where there are fewer of them."""
        head, *rows = zip(self.head, *self.rows, strict=True)
        return Table(list(map(str, head)), rows)

    def in_markdown(self) -> Markup:
        """With everything in it escaped."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = [[Markup(cell) if n == 1 else cell for cell in line] for n, line in enumerate(lines)]
        return Markup("\n".join("| " + " | ".join(map(markdown, line)) + " |" for line in cells))

    def in_terminal(self) -> str:
        """As wide as the terminal (100 columns where there is none), without colours."""
        drawn = Drawn(*map(plain, self.head), box=None, pad_edge=False)
        for row in self.rows:
            drawn.add_row(*("" if cell is None else plain(str(cell)) for cell in row))
        file = io.StringIO()
        width = shutil.get_terminal_size((100, 24)).columns
        Console(file=file, width=width, markup=False, highlight=False, force_terminal=False).print(drawn)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
