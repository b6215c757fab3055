"""The figures of an evaluation in the terminal."""

from __future__ import annotations

import sys

from ..support.table import Table
from ..support.terminal import wrapped
from .columns import cell_of, columns_of, title_of
from .figures import DEVIATION
from .results import Results


def summary(results: Results) -> str:
    """A table of the main figures of each setting, each with its interval."""
    rows = []
    for column in columns_of(results.settings.values()):
        cells = [cell_of(setting.overall.get(column), column) for setting in results.settings.values()]
        values = (f"{cell.value}  {cell.interval}".strip() for cell in cells)
        rows.append([title_of(column), *values])
    figures = Table(["figure", *results.settings], rows).in_terminal()
    notes = []
    for name, setting in results.settings.items():
        groups = results.manifest["settings"][name]["groups"]
        if len(groups) == 1 and any(figure.startswith(DEVIATION) for figure in setting.overall):
            note = "its deviation ratio says nothing of balance, its steering accuracy how well it steers"
            notes.append(f"{name} steers all pictures to {groups[0]}: {note}.")
    notes += [f"Left out: {reason}" for reason in results.damaged.values()]
    return "\n".join([figures, *(wrapped(note, sys.stdout) for note in notes)])


def figures_line(results: Results) -> dict[str, dict[str, float]]:
    """Plain numbers by setting and figure, for machines."""
    return {
        name: {figure: round(one.value, 6) for figure, one in setting.overall.items()}
        for name, setting in results.settings.items()
    }
