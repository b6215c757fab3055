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
    concept: Annotated[
        str | None, typer.Option(help="Name of the concept in the file, where the file does not say it.")
    ] = None,
    force: Force = False,
) -> None:
    """Convert a pickle of the reference code to an adapter; no code in it is executed."""
    from ...respodiff_core.adapter.importers import import_pickle

    with report_errors():
        write_adapter(import_pickle(file, concept), output, force)
