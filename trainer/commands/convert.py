"""`respodiff convert`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..recipes.training_recipe import FileDType
from .options import Force, Output, switch
from .report_errors import report_errors
from .write_adapter import write_adapter


def convert(
    file: Annotated[Path, typer.Argument(help="Adapter file (.safetensors).")],
    output: Output,
    dtype: Annotated[FileDType, typer.Option(help="Data type of the tensors in the new file.")] = "float32",
    channel: Annotated[
        bool,
        switch(
            "--channel",
            help="Average constant modules over space to one value per channel: a small file, usually a weaker effect.",
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Convert an adapter to another data type, or its constant modules to channel modules (one value per channel)."""
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
