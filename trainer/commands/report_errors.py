"""Error messages and exit codes of commands, and the verbosity of the model libraries."""

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
    """Print an expected error as its message only, and exit with code 1."""
    try:
        yield
    except (RespoDiffError, ComfyUnavailable, NodeFailed, PromptRejected, OSError) as error:
        typer.echo(wrapped(f"respodiff: {error}", sys.stderr), err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "respodiff":
            raise
        missing = (
            f'respodiff: this command needs {error.name}, which is not installed. Run: pip install "respodiff[eval]"'
        )
        typer.echo(wrapped(missing, sys.stderr), err=True)
        raise typer.Exit(1) from error


def quieten_libraries() -> None:
    """Turn off progress bars and warnings of the model libraries; commands print their own.

    Imports them, which takes seconds: commands check their arguments first.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()
