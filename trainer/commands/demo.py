"""`respodiff demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..support.interrupts import stop_message
from .report_errors import quieten_libraries, report_errors


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output folder for adapters, image and report.")
    ] = Path("out/demo"),
    comfyui_version: Annotated[
        str,
        typer.Option(help="ComfyUI version to download, unless the environment variable COMFYUI_PATH names your own."),
    ] = "0.30.0",
) -> None:
    """Train two adapters on the built-in ToyWorld, show images before and after, and check them in a real ComfyUI."""
    with report_errors(), stop_message("Stopped. Run the same command to start the demo again."):
        from ..toyworld.demonstration import run

        quieten_libraries()
        found = run(output, comfyui_version)
        typer.echo(f"\n{found.table.in_terminal()}\n")
        typer.echo(f"Adapter: {found.adapter}   (trained in {found.numbers['training_seconds']:.0f} s)")
        typer.echo(f"Image:   {found.image}\nReport:  {found.report}")
        typer.echo(json.dumps(found.numbers))
