"""RespoDiff's objective trained at the cross-attention layers, for ablation: RAM and SAM as vectors added to what every
layer adds, in place of h.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...respodiff_core.adapter.adapter import Adapter, write
from ...respodiff_core.adapter.concept import Concept, ConceptInfo
from ...respodiff_core.adapter.contrast import ContrastConcept
from ...respodiff_core.adapter.transforms import Transform, resampled
from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.learning.fit import Fit
from ..base.attention_layers import attention_layers
from ..base.devices import accelerator_on
from ..base.unet_denoiser import UNetDenoiser
from ..recipes.training_recipe import Recipe
from ..run.setup import encode_concept, open_base
from ..support.progress_bars import progress_bar
from ..support.threads import fitting_threads


def train_at_layers(recipe: Recipe, places: int) -> Path:
    """Train the recipe's concepts as vectors on a grid of places at all cross-attention layers, write the adapter and
    return its path. Raises RespoDiffError for a base model that does not predict epsilon.
    """
    device = accelerator_on(recipe.training.device).device
    base = open_base(recipe, device)
    if base.prediction != "epsilon":
        raise RespoDiffError("Only models that predict epsilon are trained at the cross-attention layers.")
    prompts = [encode_concept(base, concept, device) for concept in recipe.concepts]
    base.release_text_encoders()
    denoiser = LayersAsH(base.denoiser, places)
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

    def __init__(self, denoiser: UNetDenoiser, places: int) -> None:
        self._unet, self._places = denoiser.unet, places
        self._layers = attention_layers(denoiser.unet)
        self.channels = {site: layer.to_out[0].out_features for site, layer in self._layers.items()}

    def encode(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> tuple[torch.Tensor, _Carry]:
        return z.new_zeros(len(z), sum(self.channels.values()), self._places, self._places), _Carry(z, t)

    def decode(self, h: torch.Tensor, carry: _Carry, condition: Condition) -> torch.Tensor:
        """The predicted noise (rows, 4, height, width) of an epsilon model; differentiable with respect to h."""
        added = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        with self._adding(h, carry.z.shape[-2:]):
            noise: torch.Tensor = self._unet(
                carry.z, carry.t, condition.context, added_cond_kwargs=None if condition.pooled is None else added
            ).sample
        return noise

    def take(self, carry: _Carry, rows: slice | torch.Tensor) -> _Carry:
        return _Carry(carry.z[rows], carry.t[rows])

    @contextmanager
    def _adding(self, h: torch.Tensor, latent: torch.Size) -> Iterator[None]:
        parts = dict(zip(self.channels, h.split(list(self.channels.values()), 1), strict=True))

        def hook(site: str, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            scale = (prod(latent) / output.shape[1]) ** 0.5
            field = resampled(parts[site], round(latent[0] / scale), round(latent[1] / scale))
            return output + field.flatten(2).mT

        handles = [layer.register_forward_hook(partial(hook, site)) for site, layer in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def concept(self, info: ConceptInfo, *modules: Transform) -> ContrastConcept:
        """The concept that adds the sum of these modules' constants at the layers."""
        total = torch.stack([module.tensors[""] for module in modules]).sum(0)
        tensors = {}
        for site, part in zip(self.channels, total.split(list(self.channels.values())), strict=True):
            tensors[f"{site}.set.direction"] = part[None, None]
            tensors[f"{site}.set.level"] = torch.ones(1, 1)
        return ContrastConcept.of(info, tensors, "add")
