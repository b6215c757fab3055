"""`respodiff import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Output
from .report_errors import report_errors
from .write_adapter import write_adapter


def import_(
    file: Annotated[Path, typer.Argument(help="unet.pth of the RespoDiff or SDisc reference code.")],
    output: Output,
    concept: Annotated[str | None, typer.Option(help="Name of the concept, if the file does not contain it.")] = None,
    force: Force = False,
) -> None:
    """Convert a pickle file of the reference code to an adapter, without executing code in it."""
    from ...respodiff_core.adapter.importers import import_pickle

    with report_errors():
        write_adapter(import_pickle(file, concept), output, force)
