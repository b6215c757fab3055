"""Writing the output adapter of a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..recipes.training_recipe import FileDType
from ..support.output_file import check_suffix, refuse_to_replace

if TYPE_CHECKING:
    from ...respodiff_core.adapter.adapter import Adapter


def write_adapter(adapter: Adapter, output: Path, force: bool, dtype: FileDType = "float32") -> None:
    """Write the adapter and print its path. Raises RespoDiffError if the output may not be replaced."""
    import torch

    from ...respodiff_core.adapter.adapter import write

    check_suffix(output)
    refuse_to_replace(output, force=force)
    write(adapter, output, getattr(torch, dtype))
    typer.echo(f"Wrote {output}: {', '.join(adapter.concepts)}")
