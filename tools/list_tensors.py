"""List the names and shapes of a checkpoint's tensors; run as a script with the Python of a ComfyUI.

Arguments: the ComfyUI tree, a model spec as JSON (see small_models.ModelSpec), the output file (JSON, name -> shape).
The model is built on the meta device, so that even full size needs no memory, and ComfyUI's own functions for saving
give the names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# The autoencoder of SD 1, 2 and XL; ComfyUI builds its encoder only at this size.
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


def network(spec: dict[str, Any]) -> Any:
    """The UNet, ControlNet or transformer of the spec."""
    import comfy.ops

    config = spec["network"]
    if spec["kind"] == "unet":
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        return UNetModel(**config)
    if spec["kind"] == "controlnet":
        from comfy.cldm.cldm import ControlNet

        return ControlNet(**config, hint_channels=3)
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    return MMDiT(**config, operations=comfy.ops.disable_weight_init)


def text_encoders(spec: dict[str, Any], tree: Path) -> dict[str, Any]:
    """The tensors of the CLIP models, named as in ComfyUI's memory."""
    import comfy.ops
    from comfy.clip_model import CLIPTextModel

    state: dict[str, Any] = {}
    for name, file in spec["clips"].items():
        config = json.loads((tree / "comfy" / file).read_text("utf-8"))
        model = CLIPTextModel(config, None, None, comfy.ops.disable_weight_init)
        state |= {f"{name}.transformer.{key}": t for key, t in model.state_dict().items()}
    return state


def tensors(spec: dict[str, Any], tree: Path) -> dict[str, Any]:
    """All tensors of the checkpoint, named as in its file."""
    import comfy.supported_models
    from comfy.ldm.models.autoencoder import AutoencoderKL

    state = network(spec).state_dict()
    if spec["kind"] == "controlnet":
        return {f"control_model.{key}": t for key, t in state.items()}
    family = getattr(comfy.supported_models, spec["model_class"])(spec["network"])
    state = family.process_unet_state_dict_for_saving(state)
    if spec["clips"]:
        state |= family.process_clip_state_dict_for_saving(text_encoders(spec, tree))
    if spec["vae"]:
        state |= family.process_vae_state_dict_for_saving(AutoencoderKL(ddconfig=VAE, embed_dim=4).state_dict())
    # Token positions are integers, which ComfyUI creates itself.
    return {key: t for key, t in state.items() if not key.endswith("position_ids")}


def main(tree: Path, spec: dict[str, Any], output: Path) -> None:
    sys.path[0] = str(tree)  # instead of this script's folder, whose modules would shadow ComfyUI's
    from comfy.cli_args import args

    args.cpu = True  # before comfy.model_management looks for a GPU
    import torch

    with torch.device("meta"):
        shapes = {key: list(t.shape) for key, t in tensors(spec, tree).items()}
    output.write_text(json.dumps(shapes), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]))
