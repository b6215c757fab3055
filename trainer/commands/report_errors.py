"""What commands say: their own words, and how they end when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ...respodiff_core.errors import RespoDiffError
from ..comfyui.outputs import NodeFailed, PromptRejected
from ..comfyui.source import ComfyUnavailable
from ..support.terminal import wrapped


@contextmanager
def report_errors() -> Iterator[None]:
    """End with the error's own words and exit code 1: they were written for the person at the screen."""
    try:
        yield
    except (RespoDiffError, ComfyUnavailable, NodeFailed, PromptRejected, OSError) as error:
        typer.echo(wrapped(f"respodiff: {error}", sys.stderr), err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "respodiff":
            raise
        missing = (
            f"respodiff: this command needs {error.name}, which is not installed. Get all that it needs with: "
            'pip install "respodiff[eval]"'
        )
        typer.echo(wrapped(missing, sys.stderr), err=True)
        raise typer.Exit(1) from error


def quieten_libraries() -> None:
    """No bars and notes of the model libraries for every file they read: people watch the command's own.

    Loads them, which takes seconds: a command first tells what it can without them.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()
