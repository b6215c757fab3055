"""The figures of an evaluation in the terminal."""

from __future__ import annotations

import io
import shutil
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..terminal import wrapped
from .figures import DEVIATION
from .report import cell_of, columns_of, title_of
from .results import Results


def summary(results: Results) -> str:
    """A table of the main figures of each setting, each with its interval."""
    columns = columns_of(results.settings.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure")
    for name in results.settings:
        table.add_column(escape(name), justify="left")
    for column in columns:
        cells = [cell_of(setting.overall.get(column), column) for setting in results.settings.values()]
        values = (f"{cell.value}  [dim]{cell.interval}[/dim]".strip() for cell in cells)
        table.add_row(escape(title_of(column)), *values)
    file = io.StringIO()
    console = Console(file=file, width=shutil.get_terminal_size((100, 24)).columns, force_terminal=False)
    console.print(table)
    notes = []
    for name, setting in results.settings.items():
        groups = results.manifest["settings"][name]["groups"]
        if len(groups) == 1 and any(figure.startswith(DEVIATION) for figure in setting.overall):
            note = "its deviation ratio says nothing of balance, its steering accuracy how well it steers"
            notes.append(f"{name} steers all pictures to {groups[0]}: {note}.")
    notes += [f"Left out: {reason}" for reason in results.damaged.values()]
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "\n".join([*lines, *(wrapped(note, sys.stdout) for note in notes)])


def figures_line(results: Results) -> dict[str, dict[str, float]]:
    """Plain numbers by setting and figure, for machines."""
    return {
        name: {figure: round(one.value, 6) for figure, one in setting.overall.items()}
        for name, setting in results.settings.items()
    }
