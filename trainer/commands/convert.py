"""`respodiff convert`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..recipes.training_recipe import FileDType
from .options import Force, Output
from .report_errors import report_errors
from .write_adapter import write_adapter


def convert(
    file: Annotated[Path, typer.Argument(help="Adapter file (.safetensors).")],
    output: Output,
    dtype: Annotated[FileDType, typer.Option(help="Number format of the new file.")] = "float32",
    channel: Annotated[
        bool, typer.Option("--channel", help="Average constant modules over space, so that they fit any latent size.")
    ] = False,
    force: Force = False,
) -> None:
    """Store an adapter in another number format, or its constant modules as channel modules (the same everywhere)."""
    from ...respodiff_core.adapter.adapter import read

    with report_errors():
        adapter = read(file)
        if channel:
            concepts = {
                name: replace(c, ram=c.ram.averaged_over_space(), sam=c.sam.averaged_over_space())
                for name, c in adapter.concepts.items()
            }
            adapter = replace(adapter, concepts=concepts)
        write_adapter(adapter, output, force, dtype)
