"""The destination of downloaded adapters."""

from __future__ import annotations

from pathlib import Path

from ...respodiff_core.names import SUFFIX
from ..comfyui.source import users_folder
from .hub import SharingError


def destination_of(output: Path | None, comfyui: Path | None) -> Path:
    """A folder or file: `output` if given, else models/respodiff of the ComfyUI in `comfyui` or COMFYUI_PATH, else the
    current folder. Raises SharingError, and ComfyUnavailable if that folder is not a ComfyUI.
    """
    if output is not None:
        if comfyui is not None:
            raise SharingError("Give either -o or --comfyui, not both.")
        if output.suffix != SUFFIX and not output.is_dir():
            raise SharingError(f"There is no folder {output}: create it first, or name a file that ends in {SUFFIX}.")
        return output
    folder = users_folder(comfyui)
    return folder / "models" / "respodiff" if folder else Path()
