"""Inspect Adapter: shows the contents of an adapter as text and as an image."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.adapter.summary import summarise
from .host.adapter_preview import find_preview
from .inputs import CATEGORY, adapter_input
from .pictures.adapter_picture import draw


class InspectAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffInspectAdapter",
            display_name="Inspect RespoDiff Adapter",
            category=CATEGORY,
            description=(
                "Shows where in the image, and how strongly, RAM (brings in the concept) and SAM (keeps the rest of "
                "the image) of each concept act. Connect TEXT to Preview as Text to read the adapter's concepts, "
                "prompts and training settings."
            ),
            search_aliases=[
                "respodiff",
                "adapter info",
                "adapter metadata",
                "show adapter",
                "fairness",
                "safety",
            ],
            is_output_node=True,
            inputs=[adapter_input()],
            outputs=[
                io.String.Output("TEXT", tooltip="Summary of the adapter."),
                io.Image.Output(
                    "IMAGE",
                    tooltip=(
                        "RAM and SAM of each concept: root mean square over channels at each position of the middle "
                        "block."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(cls, adapter: Adapter) -> io.NodeOutput:
        text = summarise(adapter)
        image = draw(adapter)
        shown = ui.PreviewImage(image, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        preview = None if adapter.path is None else find_preview(adapter.path)
        if preview is not None:
            shown["images"] = [*ui.PreviewImage(preview, cls=cls).as_dict()["images"], *shown["images"]]
        return io.NodeOutput(text, image, ui=shown)
