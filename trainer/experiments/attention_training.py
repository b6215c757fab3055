"""RespoDiff's objective trained at the cross-attention layers, for ablation: RAM and SAM as vectors added to what every
layer adds, in place of h.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from ...respodiff_core.adapter.adapter import Adapter, write
from ...respodiff_core.adapter.concept import Concept, ConceptInfo
from ...respodiff_core.adapter.contrast import ContrastConcept
from ...respodiff_core.adapter.transforms import Transform, resampled
from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.learning.fit import Fit
from ...respodiff_core.sites import size_at
from ..base.devices import accelerator_on
from ..base.unet_denoiser import UNetDenoiser
from ..recipes.training_recipe import Recipe
from ..run.setup import encode_concept, open_base
from ..support.progress_bars import progress_bar
from ..support.threads import fitting_threads


def train_at_layers(recipe: Recipe, places: int) -> Path:
    """Train the recipe's concepts as vectors on a grid of places at all cross-attention layers, write the adapter and
    return its path.
    """
    device = accelerator_on(recipe.training.device).device
    base = open_base(recipe, device)
    prompts = [encode_concept(base, concept, device) for concept in recipe.concepts]
    base.release_text_encoders()
    channels = {site: base.sites[site] for site in base.denoiser.attention_sites}
    denoiser = LayersAsH(base.denoiser, channels, places)
    finished: dict[str, Concept] = {}
    with fitting_threads(base.weight_bytes):
        for concept, encoded in zip(recipe.concepts, prompts, strict=True):
            fit = Fit(
                denoiser, base.alphas_cumprod, concept, encoded, recipe.training, latent=base.latent_size, device=device
            )
            with progress_bar(concept.steps, concept.name, "step") as bar:
                for _ in fit:
                    bar.update()
            done = fit.finished(base_model=base.name, base_sha256=base.sha256)
            finished[concept.name] = denoiser.concept(done.info, done.ram, done.sam)
    return write(Adapter(base.family, finished, base.prediction, source=recipe.output.name), recipe.output)


class _Carry(NamedTuple):
    z: torch.Tensor
    t: torch.Tensor


class LayersAsH:
    """A `Denoiser` whose h is what is added at all cross-attention layers, side by side: zero (rows, sum of their
    channels, places, places), resampled to each layer.
    """

    def __init__(self, denoiser: UNetDenoiser, channels: Mapping[str, int], places: int) -> None:
        self._denoiser, self._channels, self._places = denoiser, channels, places

    def encode(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> tuple[torch.Tensor, _Carry]:
        return z.new_zeros(len(z), sum(self._channels.values()), self._places, self._places), _Carry(z, t)

    def decode(self, h: torch.Tensor, carry: _Carry, condition: Condition) -> torch.Tensor:
        """The predicted noise (rows, 4, height, width); differentiable with respect to h."""
        parts = dict(zip(self._channels, h.split(list(self._channels.values()), 1), strict=True))
        height, width = carry.z.shape[-2:]

        def attend(site: str, output: torch.Tensor) -> torch.Tensor:
            field = resampled(parts[site], *size_at(output.shape[1], height, width))
            return output + field.flatten(2).mT.to(output.dtype)

        with self._denoiser.attending(attend):
            return self._denoiser.predict_differentiably(carry.z, carry.t, condition)

    def take(self, carry: _Carry, rows: slice | torch.Tensor) -> _Carry:
        return _Carry(carry.z[rows], carry.t[rows])

    def concept(self, info: ConceptInfo, *modules: Transform) -> ContrastConcept:
        """The concept that adds the sum of these modules' constants at the layers."""
        total = torch.stack([module.tensors[""] for module in modules]).sum(0)
        tensors = {}
        for site, part in zip(self._channels, total.split(list(self._channels.values())), strict=True):
            tensors[f"{site}.set.direction"] = part[None, None]
            tensors[f"{site}.set.level"] = torch.ones(1, 1)
        return ContrastConcept.of(info, tensors, "add")
