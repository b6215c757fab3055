"""`respodiff info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .report_errors import report_errors


def info(file: Annotated[Path, typer.Argument(help="Adapter file (.safetensors).")]) -> None:
    """Show what an adapter contains: concepts, prompts, strengths and how it was trained."""
    from ...respodiff_core.adapter.adapter import read
    from ...respodiff_core.adapter.summary import summarise

    with report_errors():
        typer.echo(summarise(read(file)))
