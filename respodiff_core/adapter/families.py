"""Model families an adapter can belong to.

SD1.x, SD2.x and SDXL bottlenecks are all 1280 channels wide, so the width does not tell them apart: the
adapter's metadata must.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plain_text import plain


@dataclass(frozen=True)
class Family:
    """One family of UNets with an h-space."""

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
    """The family's name as people write it; an unlisted name stands for itself."""
    if not name:
        return "an unknown family"
    return FAMILIES[name].title if name in FAMILIES else plain(name, 80)


def pixels_per_latent(name: str | None) -> int:
    """How many pixels wide and high one latent is; 8 for families that are not listed."""
    return FAMILIES[name].pixels_per_latent if name in FAMILIES else 8
