"""Model families that adapters are made for.

The bottlenecks of SD1.x, SD2.x and SDXL all have 1280 channels, so the number of channels does not identify the family:
it is stored in the adapter's metadata.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plain_text import plain


@dataclass(frozen=True)
class Family:
    """A family of UNets with an h-space."""

    name: str
    title: str
    modelspec_architecture: str
    pixels_per_latent: int = 8


FAMILIES = {
    family.name: family
    for family in (
        Family("sd15", "Stable Diffusion 1.x", "stable-diffusion-v1"),
        Family("sd2", "Stable Diffusion 2.x", "stable-diffusion-v2"),
        Family("sdxl", "Stable Diffusion XL", "stable-diffusion-xl-v1-base"),
        Family("toyworld", "ToyWorld", "toyworld", 4),  # the trainer's built-in base model
    )
}


def family_title(name: str | None) -> str:
    """The display name of the family. A name that is not listed is returned unchanged."""
    if not name:
        return "an unknown family"
    return FAMILIES[name].title if name in FAMILIES else plain(name, 80)


def pixels_per_latent(name: str | None) -> int:
    """Width and height in image pixels of one latent pixel; 8 for families that are not listed."""
    return FAMILIES[name].pixels_per_latent if name in FAMILIES else 8
