"""Run by path with a ComfyUI's own Python: which tensors, of which shapes, a checkpoint consists of.

Arguments: the ComfyUI tree, an order as JSON (see small_models.Order), the file for the answer (JSON, name ->
shape). Everything is built on the meta device, so even a full-size model costs no memory, and named by
ComfyUI's own functions for saving, so the names are right by construction.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# The autoencoder of SD 1, 2 and XL; ComfyUI builds its encoder at no other size.
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def network(order: dict[str, Any]) -> Any:
    """The UNet, ControlNet or transformer that the order describes."""
    import comfy.ops

    config = order["network"]
    if order["kind"] == "unet":
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        return UNetModel(**config)
    if order["kind"] == "controlnet":
        from comfy.cldm.cldm import ControlNet

        return ControlNet(**config, hint_channels=3)
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    return MMDiT(**config, operations=comfy.ops.disable_weight_init)


def text_encoders(order: dict[str, Any], tree: Path) -> dict[str, Any]:
    """The CLIP models' tensors, as ComfyUI calls them in memory."""
    import comfy.ops
    from comfy.clip_model import CLIPTextModel

    state: dict[str, Any] = {}
    for name, file in order["clips"].items():
        config = json.loads((tree / "comfy" / file).read_text("utf-8"))
        model = CLIPTextModel(config, None, None, comfy.ops.disable_weight_init)
        state |= {f"{name}.transformer.{key}": t for key, t in model.state_dict().items()}
    return state


def tensors(order: dict[str, Any], tree: Path) -> dict[str, Any]:
    """The whole checkpoint, named as in its file."""
    import comfy.supported_models
    from comfy.ldm.models.autoencoder import AutoencoderKL

    state = network(order).state_dict()
    if order["kind"] == "controlnet":
        return {f"control_model.{key}": t for key, t in state.items()}
    family = getattr(comfy.supported_models, order["model_class"])(order["network"])
    state = family.process_unet_state_dict_for_saving(state)
    if order["clips"]:
        state |= family.process_clip_state_dict_for_saving(text_encoders(order, tree))
    if order["vae"]:
        state |= family.process_vae_state_dict_for_saving(AutoencoderKL(ddconfig=VAE, embed_dim=4).state_dict())
    # Token positions are integers that ComfyUI counts by itself.
    return {key: t for key, t in state.items() if not key.endswith("position_ids")}


def main(tree: Path, order: dict[str, Any], answer: Path) -> None:
    sys.path[0] = str(tree)  # instead of this script's folder, whose modules would hide ComfyUI's own
    from comfy.cli_args import args

    args.cpu = True  # before comfy.model_management looks for a GPU
    import torch

    with torch.device("meta"):
        shapes = {key: list(t.shape) for key, t in tensors(order, tree).items()}
    answer.write_text(json.dumps(shapes), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]))
