"""The commands of `respodiff`."""

from __future__ import annotations

import inspect
import logging
from importlib.metadata import version
from typing import Annotated

import typer

from .ablate import ablate
from .base import base
from .calibrate import calibrate
from .contrast import contrast
from .convert import convert
from .demo import demo
from .eval import eval_
from .import_ import import_
from .info import info
from .merge import merge
from .options import switch
from .pull import pull
from .push import push
from .report import report
from .reproduce import reproduce
from .train import train

app = typer.Typer(
    help="Make, measure and share RespoDiff adapters: fairness and safety for Stable Diffusion 1.x, 2.x and XL.\n\n"
    "The usual order: train an adapter, eval it against its base model, calibrate its strengths, push it to the "
    "Hugging Face Hub. The ComfyUI nodes load its file from models/respodiff. demo shows it all on a small built-in "
    "model.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
_COMMANDS = {
    "Make": (contrast, train, calibrate, import_, convert, merge),
    "Measure": (eval_, report, ablate, reproduce),
    "Share": (pull, push),
    "Look": (info, base, demo),
}


def _paragraphs(doc: str) -> str:
    """A docstring with one line per paragraph, for the terminal to wrap."""
    return "\n\n".join(" ".join(one.split()) for one in inspect.cleandoc(doc).split("\n\n"))


for panel, commands in _COMMANDS.items():
    for command in commands:
        name, doc = command.__name__.removesuffix("_"), command.__doc__ or ""
        app.command(name, help=_paragraphs(doc), rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"respodiff {version('respodiff')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, switch("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[bool, switch("--verbose", "-v", help="Log more details.")] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(message)s")
    for client in ("httpx", "httpx2"):  # used by huggingface_hub; they log every request
        logging.getLogger(client).setLevel(logging.INFO if verbose else logging.WARNING)
