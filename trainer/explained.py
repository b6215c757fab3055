"""How a command ends when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..respodiff_core.errors import RespoDiffError
from .comfyui.results import NodeFailed, PromptRejected
from .comfyui.source import ComfyUnavailable
from .run.interrupts import Interrupted


@contextmanager
def explained() -> Iterator[None]:
    """End with the error's own words and exit code 1: they were written for the person at the screen."""
    try:
        yield
    except (RespoDiffError, ComfyUnavailable, NodeFailed, PromptRejected, OSError) as error:
        typer.echo(f"respodiff: {error}", err=True)
        raise typer.Exit(1) from error
    except Interrupted as stop:
        typer.echo(f"respodiff: {stop}", err=True)
        raise typer.Exit(stop.exit_code) from stop
