"""Options and messages shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.spec import BASES
from .flags import Settings

Base = Annotated[str, typer.Option(help=f"Base model: {BASES}.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Adapter file to write (.safetensors).")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
STOPPED = "Stopped. Results so far are kept in {}; run the same command to resume."


def training_device(settings: Settings) -> dict[str, Any]:
    """Training settings that select the device used for sampling."""
    return {name: value for name, value in settings["drawing"].items() if name == "device"}
