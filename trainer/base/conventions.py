"""The supported model families: how each encodes text, and the size and scale of its latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base_model_error import SUPPORTED, BaseModelError

_END, _ZERO = "<|endoftext|>", 0


@dataclass(frozen=True)
class TextConvention:
    """How a UNet uses the output of one text encoder.

    Short prompts are padded with the token `pad` (an id, or the token as text). `penultimate` selects the hidden states
    before the last layer, without the final norm; otherwise it is the last layer's output after the final norm. Layers
    beyond `layers` are not run (None: all are). `pooled` is whether its pooled and projected output is read too.
    `activation` is its MLPs', which a checkpoint does not say: CLIP-L's is quick_gelu, OpenCLIP's gelu.
    """

    pad: int | str = _END
    penultimate: bool = False
    layers: int | None = None
    pooled: bool = False
    activation: str = "quick_gelu"


@dataclass(frozen=True)
class Conventions:
    """One model family, recognized by `context`, the width of the text states that its UNets read.

    `latent` is the native height and width of latents, and `scaling` the scaling factor of the VAE: a checkpoint file
    contains neither, a diffusers folder both.
    """

    family: str
    context: int
    texts: tuple[TextConvention, ...]
    latent: int = 64
    scaling: float = 0.18215

    @property
    def pooled(self) -> bool:
        """Whether the UNet reads a pooled text embedding, and the size of the image (SDXL)."""
        return any(text.pooled for text in self.texts)


CONVENTIONS = (
    Conventions("sd15", 768, (TextConvention(),)),
    # The final norm follows the penultimate of 24 layers. Folders omit the last one, and so do files made of folders.
    Conventions("sd2", 1024, (TextConvention(_ZERO, layers=23, activation="gelu"),)),
    Conventions(
        "sdxl",
        2048,
        (TextConvention(penultimate=True), TextConvention(_ZERO, penultimate=True, pooled=True, activation="gelu")),
        latent=128,
        scaling=0.13025,
    ),
    Conventions("toyworld", 48, (TextConvention(),)),
)

_REFINER_CONTEXT = 1280


def conventions_of(unet_config: Mapping[str, Any], name: str) -> Conventions:
    """The family of a UNet with this diffusers config. Raises BaseModelError if it is not supported."""
    channels, context = unet_config["in_channels"], unet_config["cross_attention_dim"]
    if channels == 9:
        raise BaseModelError(f"{name} is an inpainting model (9 latent channels). {SUPPORTED}")
    if context == _REFINER_CONTEXT:
        raise BaseModelError(f"{name} is the SDXL refiner, which only refines images. {SUPPORTED}")
    if unet_config.get("mid_block_type", "") is None:
        raise BaseModelError(f"{name} has a UNet without a middle block, which steering acts on. {SUPPORTED}")
    added, classes = unet_config.get("addition_embed_type"), unet_config.get("class_embed_type")
    for family in CONVENTIONS:
        wanted = ("text_time" if family.pooled else None, None)
        if (channels, context) == (4, family.context) and (added, classes) == wanted:
            return family
    raise BaseModelError(
        f"{name} is of an unknown family: its UNet reads {channels} latent channels and text states of width "
        f"{context}, with added conditions {added or classes or 'none'}. {SUPPORTED}"
    )
