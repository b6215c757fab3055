"""The figures of an evaluation for the terminal."""

from __future__ import annotations

import sys

from ..support.table import Table
from ..support.terminal import wrapped
from .figures import DEVIATION
from .presentation import cell_of, main_figures, title_of
from .results import Results

_MOST_COLUMNS = 4


def summary(results: Results) -> str:
    """A table of the main figures of each variant, and notes.

    Few variants are columns, with intervals; more are rows.
    """
    many = len(results.variants) > _MOST_COLUMNS
    rows = []
    for figure in main_figures(variant.overall for variant in results.variants.values()):
        cells = [cell_of(variant.overall.get(figure), figure.kind) for variant in results.variants.values()]
        values = (cell.value if many else f"{cell.value}  {cell.interval}".strip() for cell in cells)
        rows.append([title_of(figure), *values])
    table = Table(["" if many else "figure", *results.variants], rows)
    figures = (table.transposed() if many else table).in_terminal()
    notes = ["Intervals are in the report."] if many else []
    for name, variant in results.variants.items():
        groups = results.manifest["variants"][name]["groups"]
        if len(groups) == 1 and any(figure.kind == DEVIATION for figure in variant.overall):
            note = "look at its steering accuracy; its deviation ratio does not measure balance"
            notes.append(f"{name} steers all images to {groups[0]}: {note}.")
    notes += [f"Left out: {reason}" for reason in results.damaged.values()]
    return "\n".join([figures, *(wrapped(note, sys.stdout) for note in notes)])


def figures_line(results: Results) -> dict[str, dict[str, float]]:
    """Plain numbers by variant and figure, for JSON output."""
    return {
        name: {figure: round(one.value, 6) for figure, one in variant.named.items()}
        for name, variant in results.variants.items()
    }
