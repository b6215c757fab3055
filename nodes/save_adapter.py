"""Save Adapter: writes an adapter to a file in models/respodiff."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io, ui

from ..respodiff_core.adapter.adapter import Adapter, to_bytes, write
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.names import SUFFIX
from .host import adapter_folder as folder
from .host.adapter_preview import save_preview
from .inputs import CATEGORY, adapter_input

_ABOUT = {
    "title": "Title of the adapter, for model managers. Empty: as it is.",
    "author": "Author of the adapter.",
    "license": "Licence of the adapter, such as CC-BY-4.0.",
    "description": "What it does, what it was made for, and what it cannot do.",
}
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
                adapter_input(tooltip="From a node that makes, combines or loads adapters."),
                io.String.Input("name", default="combined", tooltip="File name in models/respodiff."),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace an existing file with this name."),
                io.Combo.Input(
                    "dtype",
                    options=list(_DTYPES),
                    default="float32",
                    advanced=True,
                    tooltip="Data type of the saved tensors.",
                ),
                *(
                    io.String.Input(
                        key, default="", optional=True, advanced=True, multiline=key == "description", tooltip=tooltip
                    )
                    for key, tooltip in _ABOUT.items()
                ),
                io.Image.Input(
                    "preview", optional=True, tooltip="Saved beside the file, where model managers look for it."
                ),
            ],
            outputs=[io.String.Output("PATH", tooltip="Path of the saved file.")],
        )

    @classmethod
    def execute(
        cls,
        adapter: Adapter,
        name: str,
        overwrite: bool,
        dtype: str = "float32",
        preview: torch.Tensor | None = None,
        **about: str,
    ) -> io.NodeOutput:
        given = {f"modelspec.{key}": text.strip() for key, text in about.items() if text.strip()}
        adapter = replace(adapter, metadata={**adapter.metadata, **given})
        path = folder.new_file(name.strip(), SUFFIX)
        # Writing the same content again is allowed: a workflow may be queued twice.
        if path.exists() and not overwrite and path.read_bytes() != to_bytes(adapter, _DTYPES[dtype]):
            raise AdapterFileError(
                f"{path.name} already exists with different content: choose another name or turn overwrite on."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write(adapter, path, _DTYPES[dtype])
        if preview is not None:
            save_preview(path, preview)
        return io.NodeOutput(str(path), ui=ui.PreviewText(f"Saved {path.name}: {', '.join(adapter.concepts)}"))
