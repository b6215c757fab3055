"""ToyWorld as a node pack of its own: a tiny model to try RespoDiff's nodes with, without a checkpoint.

Copy this folder into `ComfyUI/custom_nodes`. It needs only what ComfyUI brings. The demo and the tests link it into
their servers. ComfyUI loads it by its path, so it imports nothing else of the package.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import comfy.ldm.modules.diffusionmodules.model as autoencoder
import torch
from comfy.diffusers_convert import convert_vae_state_dict
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy.supported_models_base import BASE
from comfy.utils import unet_to_diffusers
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

_MODEL = Path(__file__).parent / "model"
_WEIGHTS = "diffusion_pytorch_model.safetensors"


class toyworld(BASE):
    """ToyWorld's model config. RespoDiff's nodes compare its class name with the family of adapters."""

    unet_extra_config: ClassVar[dict[str, int]] = {}  # ComfyUI's default would override the number of heads


class ToyWorldClip:
    """ToyWorld's text encoder, with the methods that nodes call of a CLIP; also for several prompts at once."""

    def __init__(self) -> None:
        self._tokenizer = CLIPTokenizer.from_pretrained(_MODEL / "tokenizer")
        self._text_encoder = CLIPTextModel.from_pretrained(_MODEL / "text_encoder").float()

    def tokenize(self, text: str | list[str]) -> torch.Tensor:
        tokens = self._tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        ids: torch.Tensor = tokens.input_ids
        return ids

    def encode_from_tokens_scheduled(self, tokens: torch.Tensor) -> list:
        return [[self._text_encoder(tokens).last_hidden_state, {}]]


class ToyWorld:
    """The model, on the CPU. A latent of 16 x 16, which is 128 px in ComfyUI, becomes a picture of 64 x 64."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"
    CATEGORY = "ToyWorld"
    DESCRIPTION = (
        "A tiny test model instead of a checkpoint, to try RespoDiff's nodes in seconds on any computer. It knows "
        '"a photo of a doctor", guard, nurse, teacher, lawyer and others, with round or square heads, and nearly all '
        "its doctors have round ones. Use an empty latent of 128 x 128 px; the pictures have 64 x 64."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def load(self) -> tuple[ModelPatcher, ToyWorldClip, VAE]:
        unet, vae = (json.loads((_MODEL / part / "config.json").read_text("utf-8")) for part in ("unet", "vae"))
        return _model(unet, vae["scaling_factor"]), ToyWorldClip(), _vae(vae)


class ToyWorldPrompts:
    """One prompt per line, line i for image i of the batch, like diffusers' Stable Diffusion pipeline."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"
    CATEGORY = "ToyWorld"
    DESCRIPTION = "Encodes one prompt per line: line i is for image i of the batch."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"clip": ("CLIP",), "prompts": ("STRING", {"default": "", "multiline": True})}}

    def encode(self, clip: ToyWorldClip, prompts: str) -> tuple[list]:
        return (clip.encode_from_tokens_scheduled(clip.tokenize(prompts.split("\n"))),)


def _model(unet: dict[str, Any], scale: float) -> ModelPatcher:
    config = toyworld(_comfyui_config(unet))
    config.set_inference_dtype(torch.float32, None)
    config.latent_format.scale_factor = scale
    model = config.get_model({})
    names = unet_to_diffusers(config.unet_config)
    weights = load_file(_MODEL / "unet" / _WEIGHTS)
    model.diffusion_model.load_state_dict({names[name]: tensor for name, tensor in weights.items()})
    for module in model.diffusion_model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = unet["norm_num_groups"]  # ComfyUI builds all UNets with 32 groups
    cpu = torch.device("cpu")
    return ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _vae(config: dict[str, Any]) -> VAE:
    widths = config["block_out_channels"]
    sizes = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "attn_op": torch.nn.Identity,
    }
    # ComfyUI builds all VAEs with 32 groups in their norms, and attention in the middle.
    groups = patch.object(autoencoder.Normalize, "__defaults__", (config["norm_num_groups"],))
    with groups, patch.object(autoencoder, "make_attn", torch.nn.Identity):
        vae = VAE(
            _comfyui_vae_weights(len(widths)),
            config={"params": {"ddconfig": sizes, "embed_dim": config["latent_channels"]}},
            dtype=torch.float32,
        )
    vae.downscale_ratio = vae.upscale_ratio = 2 ** (len(widths) - 1)
    return vae


def _comfyui_vae_weights(levels: int) -> dict[str, torch.Tensor]:
    """With ComfyUI's names, whose conversion assumes four levels."""
    weights = convert_vae_state_dict(load_file(_MODEL / "vae" / _WEIGHTS))
    up = re.compile(r"(?<=^decoder\.up\.)\d")
    return {up.sub(lambda level: str(int(level[0]) - 4 + levels), name): one for name, one in weights.items()}


def _comfyui_config(unet: dict[str, Any]) -> dict[str, Any]:
    """The diffusers config of a UNet, converted to ComfyUI's."""
    widths, blocks = unet["block_out_channels"], unet["layers_per_block"]
    depths = [int(kind.startswith("CrossAttn")) for kind in unet["down_block_types"]]
    return {
        "image_size": unet["sample_size"],
        "in_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": [blocks] * len(widths),
        "num_heads": unet["attention_head_dim"],  # in diffusers this is the number of heads
        "use_spatial_transformer": True,
        "context_dim": unet["cross_attention_dim"],
        "transformer_depth": [depth for depth in depths for _ in range(blocks)],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [depth for depth in depths for _ in range(blocks + 1)],
    }


NODE_CLASS_MAPPINGS = {"ToyWorld": ToyWorld, "ToyWorldPrompts": ToyWorldPrompts}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ToyWorld": "ToyWorld (no checkpoint needed)",
    "ToyWorldPrompts": "ToyWorld Prompts (one per line)",
}
