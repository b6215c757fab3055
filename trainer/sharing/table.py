"""Tables of a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .words import markdown


@dataclass(frozen=True)
class Table:
    """A head and rows of as many cells; texts stand for themselves."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    def without_empty_columns(self) -> Table:
        """Only columns in which something is said."""
        kept = [n for n in range(len(self.head)) if any(row[n] not in ("", None) for row in self.rows)]
        return Table([self.head[n] for n in kept], [[row[n] for n in kept] for row in self.rows])

    def in_markdown(self) -> Markup:
        """With everything in it escaped."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = [[Markup(cell) if n == 1 else cell for cell in line] for n, line in enumerate(lines)]
        return Markup("\n".join("| " + " | ".join(map(markdown, line)) + " |" for line in cells))
