"""`respodiff import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Output
from .report_errors import report_errors
from .write_adapter import write_adapter


def import_(
    file: Annotated[Path, typer.Argument(help="unet.pth, as the authors' code of RespoDiff or SDisc saves it.")],
    output: Output,
    concept: Annotated[str | None, typer.Option(help="Name of the concept, if the file does not contain it.")] = None,
    force: Force = False,
) -> None:
    """Convert an adapter of the authors' code (unet.pth, a pickle) to a file that the ComfyUI nodes load, without
    executing code in it.
    """
    from ...respodiff_core.adapter.importers import import_weights

    with report_errors():
        write_adapter(import_weights(file, concept), output, force)
