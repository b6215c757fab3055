"""Errors for files that are not base models, recognized by their headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base_model_error import BaseModelError

UNET = "model.diffusion_model."

FIRST = "input_blocks.0.0.weight"  # a UNet's first convolution, with its original (LDM) name
_DIFFUSERS = "down_blocks.0.resnets.0.conv1.weight"
_LORA = (".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.")
_VAE = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "first_stage_model.", "vae.")
_EDM = ("edm_mean", "edm_std", "edm_vpred.sigma_max")
_TRANSFORMER = (
    "joint_blocks.", "double_blocks.", "single_blocks.", "double_layers.", "transformer_blocks.", "layers.", "blocks."
)  # fmt: skip
_INSTEAD = "Use a complete checkpoint of a Stable Diffusion 1.x, 2.x or XL base model."


def refuse_other_files(file: str, names: Mapping[str, Any], metadata: Mapping[str, str], *, is_alone: bool) -> None:
    """Raise BaseModelError unless these tensors may be a checkpoint with a UNet, or only a UNet if it is not alone.

    `file` is its name in the message.
    """
    if "respodiff.format" in metadata:
        raise BaseModelError(
            f"{file} is a RespoDiff adapter, not a base model. Name the base model that the adapter is for."
        )
    if UNET + FIRST in names or (FIRST in names and not is_alone):
        if any(name in names for name in _EDM):
            raise BaseModelError(
                f"{file} was trained on another noise schedule (EDM), which steering does not support. {_INSTEAD}"
            )
        return
    if any(part in name for name in names for part in _LORA):
        raise BaseModelError(f"{file} is a LoRA, not a base model. {_INSTEAD}")
    if _DIFFUSERS in names and not is_alone:
        raise BaseModelError(
            f"{file} is a UNet in diffusers' names, which is only loaded from a diffusers folder: name the folder that "
            "it belongs to, or a version in the original names."
        )
    if FIRST in names or _DIFFUSERS in names:
        raise no_text_encoder(file)
    if any(name.removeprefix(UNET).startswith(_TRANSFORMER) for name in names):
        raise BaseModelError(
            f"{file} is a transformer (SD3, Flux or similar) and has no UNet, which steering needs. {_INSTEAD}"
        )
    if names and all(name.startswith(_VAE) for name in names):
        raise BaseModelError(f"{file} is only an autoencoder (VAE). {_INSTEAD}")
    raise BaseModelError(f"{file} is not a Stable Diffusion checkpoint: it has no {UNET}* tensors. {_INSTEAD}")


def no_text_encoder(file: str) -> BaseModelError:
    """The error for a UNet without a text encoder."""
    return BaseModelError(
        f"{file} contains a UNet without its text encoder, which is needed for prompts. Use a complete checkpoint, "
        "such as ComfyUI's CheckpointLoaderSimple loads, or name its text encoders with --text-encoder."
    )
