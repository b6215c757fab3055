"""Save Images: saves each image with the name of its group in the file name and the PNG metadata."""

from __future__ import annotations

import json
import os
import re

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import io, ui
from PIL.PngImagePlugin import PngInfo

from ..respodiff_core.errors import BatchSizeError, RespoDiffError
from ..respodiff_core.plain_text import quoted
from .host import file_names
from .inputs import CATEGORY
from .pictures.drawing import from_image

_LONGEST_PART = 110  # bytes, for the prefix and for the group's name: file systems allow 255 for both together


class SaveImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffSaveImages",
            display_name="Save RespoDiff Images",
            category=CATEGORY,
            description=(
                "Saves each image of a batch with the name of its group in the file name and in the PNG metadata (key "
                "'respodiff'). The workflow is saved as well."
            ),
            search_aliases=["respodiff", "save image", "file name", "metadata"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input("images", tooltip="The images of one batch."),
                io.String.Input("names", force_input=True, tooltip="One line per image: TEXT from Fair Batch."),
                io.String.Input(
                    "filename_prefix",
                    default="RespoDiff",
                    tooltip="Prefix of the file names. Subfolders and codes such as %year% work as in Save Image.",
                ),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, names: str, filename_prefix: str) -> io.NodeOutput:
        lines = names.splitlines()
        if len(lines) != len(images):
            raise BatchSizeError(
                f"There are {len(images)} images but {len(lines)} names: connect TEXT from the Fair Batch node that "
                "these images were generated with."
            )
        if not (file_names.shows(filename_prefix) and file_names.fits(filename_prefix, _LONGEST_PART)):
            raise RespoDiffError(
                f"{quoted(filename_prefix)} is not a valid filename_prefix: it is too long or contains control "
                "characters. Use a prefix such as 'RespoDiff' or 'people/RespoDiff'."
            )
        saved = [cls._save(image, name, filename_prefix) for image, name in zip(images, lines, strict=True)]
        return io.NodeOutput(ui=ui.SavedImages(saved))

    @classmethod
    def _save(cls, image: torch.Tensor, name: str, prefix: str) -> ui.SavedResult:
        height, width = image.shape[:2]
        plain = re.sub(r"[^\w-]+", "-", name).strip("-").encode()[:_LONGEST_PART].decode(errors="ignore")
        home = folder_paths.get_output_directory()
        folder, file, counter, subfolder, _ = folder_paths.get_save_image_path(f"{prefix}_{plain}", home, width, height)
        file = f"{file}_{counter:05}_.png"
        from_image(image).save(os.path.join(folder, file), pnginfo=cls._metadata(name), compress_level=4)
        return ui.SavedResult(file, subfolder, io.FolderType.output)

    @classmethod
    def _metadata(cls, name: str) -> PngInfo | None:
        """The metadata that Save Image writes, and the group's name. None if ComfyUI runs with --disable-metadata."""
        if args.disable_metadata:
            return None
        metadata = PngInfo()
        metadata.add_text("respodiff", json.dumps({"group": name}))
        if cls.hidden.prompt:
            metadata.add_text("prompt", json.dumps(cls.hidden.prompt))
        for key, value in (cls.hidden.extra_pnginfo or {}).items():
            metadata.add_text(key, json.dumps(value))
        return metadata
