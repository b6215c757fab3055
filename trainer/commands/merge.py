"""`respodiff merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Output
from .report_errors import report_errors
from .write_adapter import write_adapter


def merge(
    files: Annotated[list[Path], typer.Argument(help="Adapter files for the same model family.")],
    output: Output,
    force: Force = False,
) -> None:
    """Combine the concepts of several adapters in one file."""
    from ...respodiff_core.adapter.adapter import merge as merged
    from ...respodiff_core.adapter.adapter import read

    with report_errors():
        write_adapter(merged(map(read, files)), output, force)
