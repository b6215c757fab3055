"""Grid: arranges the images of a batch in one labelled image."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..respodiff_core.errors import BatchSizeError
from ..respodiff_core.steering.sweep import Sweep
from .inputs import CATEGORY, SweepType
from .pictures import grid_picture


class Grid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffGrid",
            display_name="RespoDiff Grid",
            category=CATEGORY,
            description=(
                "Arranges the images of a batch in one image: along the axes of a Strength Sweep, or in rows with a "
                "label below each image, such as TEXT from Fair Batch."
            ),
            search_aliases=["respodiff", "grid", "xy plot", "contact sheet", "labels"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The images of one batch."),
                SweepType.Input(
                    "sweep", optional=True, tooltip="From Strength Sweep. Its concepts and strengths label the axes."
                ),
                io.String.Input(
                    "labels",
                    optional=True,
                    force_input=True,
                    tooltip="One line per image, such as TEXT from Fair Batch. Ignored if sweep is connected.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The grid as a single image.")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, sweep: Sweep | None = None, labels: str = "") -> io.NodeOutput:
        lines = labels.splitlines()
        expected = sweep.images if sweep else len(lines) or len(images)
        if expected != len(images):
            raise BatchSizeError(
                f"There are {len(images)} images, but {'the sweep has' if sweep else 'there are labels for'} "
                f"{expected}: connect the images of the same batch."
            )
        grid = grid_picture.along_axes(images, sweep) if sweep else grid_picture.with_labels(images, lines)
        return io.NodeOutput(grid, ui=ui.PreviewImage(grid, cls=cls))
