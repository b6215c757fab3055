"""Checks of output files, shared by all commands."""

from __future__ import annotations

from pathlib import Path

from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.names import SUFFIX


def check_suffix(output: Path) -> None:
    """Raise RespoDiffError unless the file has the suffix of an adapter."""
    if output.suffix != SUFFIX:
        raise RespoDiffError(f"The output must end in {SUFFIX}, not {output.name!r}.")


def refuse_to_replace(output: Path, *, force: bool) -> None:
    """Raise RespoDiffError if the file exists and `force` is not set."""
    if output.exists() and not force:
        raise RespoDiffError(f"{output} already exists: choose another name, or replace it with --force.")
