"""Load Adapter: reads and checks a file in models/respodiff."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.plain_text import plain
from .host import adapter_folder as folder
from .host import node_text
from .inputs import CATEGORY, AdapterType

logger = logging.getLogger("respodiff")


class LoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffLoadAdapter",
            display_name="Load RespoDiff Adapter",
            category=CATEGORY,
            description=(
                "Loads a fairness or safety adapter from models/respodiff, or weights that the authors of RespoDiff or "
                "SDisc publish (unet.pth). A changed file is loaded again."
            ),
            search_aliases=["respodiff", "fairness", "safety", "bias", "debias", "load adapter", "h-space"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "adapter",
                    options=[*folder.adapter_files(), folder.NO_FILE],
                    tooltip="A .safetensors or .pth file in models/respodiff. Press R after adding a file.",
                )
            ],
            outputs=[AdapterType.Output("ADAPTER", tooltip="The adapter, for Steer, Fair Group and other nodes.")],
        )

    @classmethod
    def validate_inputs(cls, adapter: str = "") -> bool:
        """Accept any name here; execute raises a clearer error than ComfyUI's 'value not in list'."""
        return True

    @classmethod
    def fingerprint_inputs(cls, adapter: str) -> str:
        return folder.fingerprint(adapter)

    @classmethod
    def execute(cls, adapter: str) -> io.NodeOutput:
        loaded = folder.load(adapter)
        node_text.show(cls.hidden.unique_id, _found(loaded))
        for note in loaded.notes:
            logger.warning("RespoDiff: %s: %s", plain(adapter), plain(note))
        return io.NodeOutput(loaded)


def _found(adapter: Adapter) -> str:
    """What is in the file: its family, and its concepts by axis."""
    axes: dict[str, list[str]] = {}
    for concept in adapter.concepts.values():
        info = concept.info
        axes.setdefault(info.axis or (info.category if info.category == "safety" else ""), []).append(info.name)
    parts = [f"{axis}: {', '.join(names)}" if axis else ", ".join(names) for axis, names in axes.items()]
    return f"{adapter.family}; {'; '.join(parts)}"
