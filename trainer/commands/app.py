"""The commands of `respodiff`."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..support.interrupts import stopping_says
from ..support.output_file import refuse_to_replace
from .eval import eval_, report
from .experiments import ablate, calibrate, reproduce
from .options import DType, Force, Output
from .report_errors import quieten_libraries, report_errors
from .share import pull, push
from .train import train

if TYPE_CHECKING:
    from ...respodiff_core.adapter.adapter import Adapter


app = typer.Typer(
    help="RespoDiff adapters: fairness and safety for text-to-image models.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"respodiff {version('respodiff')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is going on.")] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(message)s")
    for requests in ("httpx", "httpx2"):  # huggingface_hub's, which say a line for each request
        logging.getLogger(requests).setLevel(logging.INFO if verbose else logging.WARNING)


@app.command()
def info(file: Annotated[Path, typer.Argument(help="An adapter (.safetensors).")]) -> None:
    """Show what an adapter holds: concepts, prompts, strengths, how it was trained."""
    from ...respodiff_core.adapter.adapter import read
    from ...respodiff_core.adapter.summary import summarise

    with report_errors():
        typer.echo(summarise(read(file)))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A unet.pth of the RespoDiff or SDisc reference code.")],
    output: Output,
    concept: Annotated[str | None, typer.Option(help="Which concept it holds, where the file does not tell.")] = None,
    force: Force = False,
) -> None:
    """Turn a pickle of the reference code into an adapter; nothing in it is run."""
    from ...respodiff_core.adapter.importers import import_pickle

    with report_errors():
        _write(import_pickle(file, concept), output, force)


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Adapters of one model family.")],
    output: Output,
    force: Force = False,
) -> None:
    """Put the concepts of several adapters into one file."""
    from ...respodiff_core.adapter.adapter import merge as merged
    from ...respodiff_core.adapter.adapter import read

    with report_errors():
        _write(merged(map(read, files)), output, force)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="An adapter (.safetensors).")],
    output: Output,
    dtype: Annotated[DType, typer.Option(help="How numbers are stored.")] = DType.float32,
    channel: Annotated[bool, typer.Option("--channel", help="Average constant modules over space.")] = False,
    force: Force = False,
) -> None:
    """Store an adapter in another dtype, or its constant modules as channel modules (the same at every place)."""
    from dataclasses import replace

    from ...respodiff_core.adapter.adapter import read

    with report_errors():
        adapter = read(file)
        if channel:
            concepts = {
                name: replace(c, ram=c.ram.averaged_over_space(), sam=c.sam.averaged_over_space())
                for name, c in adapter.concepts.items()
            }
            adapter = replace(adapter, concepts=concepts)
        _write(adapter, output, force, dtype)


app.command()(train)
app.command("eval")(eval_)
app.command()(report)
app.command()(calibrate)
app.command()(ablate)
app.command()(reproduce)
app.command()(pull)
app.command()(push)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for adapters and picture.")] = Path("out/demo"),
    comfyui: Annotated[str, typer.Option(help="ComfyUI version to fetch; COMFYUI_PATH, your own, wins.")] = "0.30.0",
) -> None:
    """Train two adapters on the built-in ToyWorld, show before and after, and check them in a real ComfyUI."""
    with report_errors():
        from .demo import run

        quieten_libraries()
        with stopping_says("The demo was stopped; the same command starts it again."):
            run(out, comfyui)


def _write(adapter: Adapter, output: Path, force: bool, dtype: DType = DType.float32) -> None:
    import torch

    from ...respodiff_core.adapter.adapter import write
    from ..support.output_file import check_suffix

    check_suffix(output)
    refuse_to_replace(output, force=force)
    write(adapter, output, getattr(torch, dtype.value))
    typer.echo(f"Wrote {output}: {', '.join(adapter.concepts)}")
