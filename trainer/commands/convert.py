"""`respodiff convert`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...respodiff_core.errors import RespoDiffError
from ..recipes.training_recipe import FileDType
from .options import Force, Output, switch
from .report_errors import report_errors
from .write_adapter import write_adapter

if TYPE_CHECKING:
    from ...respodiff_core.adapter.concept import Concept


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
            adapter = replace(adapter, concepts={name: _channels(one) for name, one in adapter.concepts.items()})
        write_adapter(adapter, output, force, dtype)


def _channels(concept: Concept) -> Concept:
    from ...respodiff_core.adapter.concept import ModuleConcept

    if not isinstance(concept, ModuleConcept):
        raise RespoDiffError(f"{concept.name!r} is a contrast concept and has no RAM and SAM: leave out --channel.")
    return replace(concept, ram=concept.ram.averaged_over_space(), sam=concept.sam.averaged_over_space())
