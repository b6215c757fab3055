"""`respodiff demo`: prints what the demo found."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from ..toyworld import demo


def run(out: Path, version: str) -> None:
    """Run the demo with this version of ComfyUI; print its table and, as the last line, its numbers as JSON.

    Raises RespoDiffError, ComfyUnavailable, and NodeFailed where a node of the real ComfyUI does.
    """
    found = demo.run(out, version)
    typer.echo(f"\n{found.table.in_terminal()}\n")
    typer.echo(f"Adapter: {found.adapter}   (trained in {found.numbers['training_seconds']:.0f} s)")
    typer.echo(f"Picture: {found.picture}\nReport:  {found.report}")
    typer.echo(json.dumps(found.numbers))
