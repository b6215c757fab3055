"""Inspect Adapter: what an adapter holds, as text and as a picture."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.adapter.summary import summarise
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
                "Draws where in the picture and how strongly RAM and SAM of each concept act. TEXT, connected to "
                "Preview as Text, tells the adapter's concepts, prompts and training."
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
                io.String.Output("TEXT", tooltip="The summary."),
                io.Image.Output(
                    "IMAGE",
                    tooltip="Per concept: RAM and SAM, root mean square over channels at each place of h.",
                ),
            ],
        )

    @classmethod
    def execute(cls, adapter: Adapter) -> io.NodeOutput:
        text = summarise(adapter)
        image = draw(adapter)
        shown = ui.PreviewImage(image, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        return io.NodeOutput(text, image, ui=shown)
