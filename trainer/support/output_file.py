"""What every command that writes a file keeps to."""

from __future__ import annotations

from pathlib import Path

from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.names import SUFFIX


def check_suffix(output: Path) -> None:
    """Raise RespoDiffError unless the name is an adapter's."""
    if output.suffix != SUFFIX:
        raise RespoDiffError(f"The output must end in {SUFFIX}, not {output.name!r}.")


def refuse_to_replace(output: Path, *, force: bool) -> None:
    """Raise RespoDiffError where a file is there already, unless its replacement was asked for."""
    if output.exists() and not force:
        raise RespoDiffError(f"{output} is there already; choose another name, or replace it with --force.")
