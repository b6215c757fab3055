"""The commands of `respodiff`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ..respodiff_core.errors import RespoDiffError
from .comfyui.results import NodeFailed, PromptRejected
from .comfyui.source import ComfyUnavailable

app = typer.Typer(
    help="RespoDiff adapters: fairness and safety for text-to-image models.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is going on.")] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(message)s")


@app.command()
def info(file: Annotated[Path, typer.Argument(help="An adapter (.safetensors).")]) -> None:
    """Show what an adapter holds: concepts, prompts, strengths, how it was trained."""
    from ..respodiff_core.adapter import read
    from ..respodiff_core.summary import summarise

    try:
        typer.echo(summarise(read(file)))
    except RespoDiffError as error:
        _stop(error)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("out/demo"),
    comfyui: Annotated[str, typer.Option(help="ComfyUI version to fetch; COMFYUI_PATH, your own, wins.")] = "0.30.0",
) -> None:
    """Steer a small model in a real, headless ComfyUI and draw one picture with a row of strengths."""
    from .demo import run

    try:
        run(out, comfyui)
    except (RespoDiffError, ComfyUnavailable, NodeFailed, PromptRejected) as error:
        _stop(error)


def _stop(error: Exception) -> None:
    """End with the error's own words: it was written for the person at the screen."""
    typer.echo(f"respodiff: {error}", err=True)
    raise typer.Exit(1) from error
