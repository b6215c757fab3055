"""Save Adapter: writes an adapter to a file in models/respodiff."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..respodiff_core.adapter.adapter import Adapter, to_bytes, write
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.names import SUFFIX
from .host import adapter_folder as folder
from .inputs import CATEGORY, adapter_input

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class SaveAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffSaveAdapter",
            display_name="Save RespoDiff Adapter",
            category=CATEGORY,
            description=(
                "Writes an adapter to models/respodiff. No partial file is left if writing fails, and an existing file "
                "is replaced only if overwrite is on."
            ),
            search_aliases=["respodiff", "save adapter", "merge", "export"],
            is_output_node=True,
            inputs=[
                adapter_input(tooltip="From Combine RespoDiff Adapters or Load RespoDiff Adapter."),
                io.String.Input("name", default="combined", tooltip="File name in models/respodiff."),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace an existing file with this name."),
                io.Combo.Input(
                    "dtype",
                    options=list(_DTYPES),
                    default="float32",
                    advanced=True,
                    tooltip="Data type of the saved tensors.",
                ),
            ],
            outputs=[io.String.Output("PATH", tooltip="Path of the saved file.")],
        )

    @classmethod
    def execute(cls, adapter: Adapter, name: str, overwrite: bool, dtype: str = "float32") -> io.NodeOutput:
        path = folder.new_file(name.strip(), SUFFIX)
        # Writing the same content again is allowed: a workflow may be queued twice.
        if path.exists() and not overwrite and path.read_bytes() != to_bytes(adapter, _DTYPES[dtype]):
            raise AdapterFileError(
                f"{path.name} already exists with different content: choose another name or turn overwrite on."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write(adapter, path, _DTYPES[dtype])
        return io.NodeOutput(str(path), ui=ui.PreviewText(f"Saved {path.name}: {', '.join(adapter.concepts)}"))
