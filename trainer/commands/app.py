"""The commands of `respodiff`."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Annotated

import typer

from .ablate import ablate
from .calibrate import calibrate
from .convert import convert
from .demo import demo
from .eval import eval_
from .import_ import import_
from .info import info
from .merge import merge
from .pull import pull
from .push import push
from .report import report
from .reproduce import reproduce
from .train import train

app = typer.Typer(
    help="RespoDiff adapters: fairness and safety for text-to-image models.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
for command in (info, import_, merge, convert, train, eval_, report, calibrate, ablate, reproduce, pull, push, demo):
    app.command(command.__name__.removesuffix("_"))(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"respodiff {version('respodiff')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more details.")] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(message)s")
    for client in ("httpx", "httpx2"):  # used by huggingface_hub; they log every request
        logging.getLogger(client).setLevel(logging.INFO if verbose else logging.WARNING)
