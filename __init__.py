"""ComfyUI-RespoDiff: fairness and safety for text-to-image models, as ComfyUI nodes and a trainer.

ComfyUI loads this folder as a node pack; pip installs it as the package `respodiff`. Importing it costs
nothing and needs no ComfyUI.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    """Called by ComfyUI to get the pack's nodes, a ComfyExtension."""
    from .nodes import extension

    return extension()
