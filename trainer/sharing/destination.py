"""Where fetched adapters go."""

from __future__ import annotations

from pathlib import Path

from ...respodiff_core.names import SUFFIX
from ..comfyui.source import users_folder
from .hub import SharingError


def destination_of(output: Path | None, comfyui: Path | None) -> Path:
    """A folder, or a file's name: what was asked for, else models/respodiff of the ComfyUI that is named here or by
    COMFYUI_PATH, else the current folder. Raises SharingError, and ComfyUnavailable where that is no ComfyUI.
    """
    if output is not None:
        if comfyui is not None:
            raise SharingError("Give a place with -o, or a ComfyUI with --comfyui, not both.")
        if output.suffix != SUFFIX and not output.is_dir():
            raise SharingError(f"There is no folder {output}: make it first, or name a file that ends in {SUFFIX}.")
        return output
    folder = users_folder(comfyui)
    return folder / "models" / "respodiff" if folder else Path()
