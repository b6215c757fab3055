"""Nodes that load ToyWorld into ComfyUI's own UNet code; the demo and the tests link them into their servers.

ComfyUI loads this folder by its path, like every node pack, so it imports nothing else of the package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from comfy.model_patcher import ModelPatcher
from comfy.supported_models_base import BASE
from comfy.utils import unet_to_diffusers
from safetensors.torch import load_file


class toyworld(BASE):
    """ToyWorld's model config. RespoDiff's nodes compare its class name with the family of adapters."""

    unet_extra_config: ClassVar[dict[str, int]] = {}  # ComfyUI's default would override the number of heads


class ToyWorldNode:
    """Attributes that ComfyUI requires of every node."""

    FUNCTION = "run"
    CATEGORY = "ToyWorld"


class ToyWorldLoader(ToyWorldNode):
    """Loads the UNet of a diffusers folder as a MODEL, in fp32 on the CPU."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"folder": ("STRING", {"default": ""})}}

    def run(self, folder: str) -> tuple[ModelPatcher]:
        unet, vae = (json.loads((Path(folder) / part / "config.json").read_text("utf-8")) for part in ("unet", "vae"))
        config = toyworld(_comfyui_config(unet))
        config.set_inference_dtype(torch.float32, None)
        config.latent_format.scale_factor = vae["scaling_factor"]
        model = config.get_model({})
        names = unet_to_diffusers(config.unet_config)
        weights = load_file(Path(folder) / "unet" / "diffusion_pytorch_model.safetensors")
        model.diffusion_model.load_state_dict({names[name]: tensor for name, tensor in weights.items()})
        for module in model.diffusion_model.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.num_groups = unet["norm_num_groups"]  # ComfyUI builds all UNets with 32 groups
        cpu = torch.device("cpu")
        return (ModelPatcher(model, load_device=cpu, offload_device=cpu),)


class ToyWorldClip:
    """ToyWorld's text encoder, with the methods that nodes call of a CLIP; also for several prompts at once."""

    def __init__(self, folder: str) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self._tokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "tokenizer")
        self._text_encoder = CLIPTextModel.from_pretrained(Path(folder) / "text_encoder").float()

    def tokenize(self, text: str | list[str]) -> torch.Tensor:
        tokens = self._tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        ids: torch.Tensor = tokens.input_ids
        return ids

    def encode_from_tokens_scheduled(self, tokens: torch.Tensor) -> list:
        return [[self._text_encoder(tokens).last_hidden_state, {}]]


class ToyWorldTextEncoder(ToyWorldNode):
    """Loads the text encoder of a diffusers folder."""

    RETURN_TYPES = ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"folder": ("STRING", {"default": ""})}}

    def run(self, folder: str) -> tuple[ToyWorldClip]:
        return (ToyWorldClip(folder),)


class ToyWorldPrompts(ToyWorldNode):
    """Encodes one prompt per line, line i for image i of the batch, like diffusers' Stable Diffusion pipeline."""

    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "folder": ("STRING", {"default": ""}),
                "prompts": ("STRING", {"default": "", "multiline": True}),
            }
        }

    def run(self, folder: str, prompts: str) -> tuple[list]:
        clip = ToyWorldClip(folder)
        return (clip.encode_from_tokens_scheduled(clip.tokenize(prompts.split("\n"))),)


class ToyWorldVae:
    """ToyWorld's VAE, with the method that nodes call of a VAE."""

    def __init__(self, folder: str) -> None:
        from diffusers import AutoencoderKL

        self._vae = AutoencoderKL.from_pretrained(Path(folder) / "vae").float()

    @torch.inference_mode()
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        images = self._vae.decode(samples.float()).sample
        shown: torch.Tensor = (images / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        return shown


class ToyWorldVAE(ToyWorldNode):
    """Loads the VAE of a diffusers folder."""

    RETURN_TYPES = ("VAE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"folder": ("STRING", {"default": ""})}}

    def run(self, folder: str) -> tuple[ToyWorldVae]:
        return (ToyWorldVae(folder),)


class ToyWorldDecode(ToyWorldNode):
    """Decodes latents, with four pixels per latent pixel (ComfyUI's own VAEs have eight)."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"folder": ("STRING", {"default": ""}), "samples": ("LATENT",)}}

    def run(self, folder: str, samples: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (ToyWorldVae(folder).decode(samples["samples"]),)


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


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls for cls in (ToyWorldLoader, ToyWorldTextEncoder, ToyWorldPrompts, ToyWorldVAE, ToyWorldDecode)
}
