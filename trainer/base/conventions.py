"""The families of base models, and what each expects of text, latents and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base_model_error import BaseModelError

_END, _ZERO = "<|endoftext|>", 0


@dataclass(frozen=True)
class TextConvention:
    """How a UNet wants one text encoder to be read.

    Short prompts are filled up with the token `pad` (an id, or the token as text). `penultimate` takes the last
    layer's input, as it is; otherwise its output after the final norm.
    """

    pad: int | str = _END
    penultimate: bool = False


@dataclass(frozen=True)
class Conventions:
    """One family. `context` is the width of the text states that its UNets read, by which they are told apart.

    `latent` is the native height and width of latents; `scaling` what latents are multiplied by in a checkpoint
    file, which does not say it. Diffusers folders say both.
    """

    family: str
    context: int
    texts: tuple[TextConvention, ...]
    latent: int = 64
    scaling: float = 0.18215
    pooled: bool = False


CONVENTIONS = (
    Conventions("sd15", 768, (TextConvention(),)),
    # Its encoder, as its folders store it, ends with the last layer but one; the norm follows.
    Conventions("sd2", 1024, (TextConvention(_ZERO),)),
    Conventions(
        "sdxl",
        2048,
        (TextConvention(penultimate=True), TextConvention(_ZERO, penultimate=True)),
        latent=128,
        scaling=0.13025,
        pooled=True,
    ),
    Conventions("toyworld", 48, (TextConvention(),)),
)

_REFINER_CONTEXT = 1280
_SUPPORTED = "Use a Stable Diffusion 1.x, 2.x or XL base model."


def conventions_of(unet_config: Mapping[str, Any], name: str) -> Conventions:
    """The family of a UNet with this diffusers config; raises BaseModelError for those that cannot be trained on."""
    channels, context = unet_config["in_channels"], unet_config["cross_attention_dim"]
    if channels == 9:
        raise BaseModelError(f"{name} is an inpainting model (9 latent channels). {_SUPPORTED}")
    if context == _REFINER_CONTEXT:
        raise BaseModelError(f"{name} is the SDXL refiner, which only finishes pictures. {_SUPPORTED}")
    if unet_config.get("mid_block_type", "") is None:
        raise BaseModelError(f"{name} has a UNet without a middle block, which steering acts on. {_SUPPORTED}")
    added, classes = unet_config.get("addition_embed_type"), unet_config.get("class_embed_type")
    for family in CONVENTIONS:
        wanted = ("text_time" if family.pooled else None, None)
        if (channels, context) == (4, family.context) and (added, classes) == wanted:
            return family
    raise BaseModelError(
        f"{name} is of an unknown family: its UNet reads {channels} latent channels and text states of width "
        f"{context}, with added conditions {added or classes or 'none'}. {_SUPPORTED}"
    )
