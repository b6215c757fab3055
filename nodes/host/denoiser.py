"""A loaded MODEL and CLIP as the denoiser that contrast concepts are computed from (learning.denoiser)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from comfy import model_management, sampler_helpers, samplers
from comfy.model_patcher import ModelPatcher

from ...respodiff_core.errors import ContrastError
from ...respodiff_core.learning.denoiser import Attend
from ...respodiff_core.sites import attention_site
from .attach import HSpacePatch, LayerPatch
from .unet import attention_blocks, family_of

_TIMESTEPS = 1000
_NATIVE = {"sdxl": 128, "sd2": 96}
_NATIVE_LATENT = 64


@dataclass(frozen=True)
class HostCondition:
    """Conditions as the model's own code makes them from prompts: tensors by name, one row per latent."""

    tensors: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @property
    def tokens(self) -> torch.Tensor:
        return self.tensors["c_crossattn"]

    def rows(self, index: torch.Tensor) -> HostCondition:
        """The rows with these indices (long), in their order; indices may repeat."""
        return HostCondition({name: tensor[index] for name, tensor in self.tensors.items()})


class HostDenoiser:
    """The denoiser of a MODEL, with its LoRAs and other patches, but not steered by this pack.

    `latent` is the (height, width) of latents, None for the native size of the family. Raises ModelMismatchError for
    models that are not image UNets.
    """

    def __init__(self, model: ModelPatcher, latent: tuple[int, int] | None = None) -> None:
        family = family_of(model)
        self.latent = latent or (_NATIVE.get(family, _NATIVE_LATENT),) * 2
        self.device: torch.device = model.load_device
        self._model = model
        self._sites = [site for site, _ in attention_blocks(model)]
        self._attend: Attend | None = None

    @property
    def attention_sites(self) -> Sequence[str]:
        return self._sites

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """The noise schedule (timesteps,), fp32 on the CPU."""
        sigmas = self._sigma(torch.arange(_TIMESTEPS))
        return 1 / (1 + sigmas.float().cpu() ** 2)

    @contextmanager
    def loaded(self, rows: int) -> Iterator[None]:
        """Within the context, the model is in memory, with room for this many latents."""
        shape = (rows, 4, *self.latent)
        model_management.load_models_gpu([self._model], memory_required=self._model.memory_required(shape))
        self._model.pre_run()
        try:
            yield
        finally:
            self._model.cleanup()

    def encode(self, clip: Any, prompts: list[str]) -> HostCondition:
        """One row per prompt, as ComfyUI encodes it for this model. Raises ContrastError for a model that also needs an
        image (inpainting, instruction).
        """
        model, noise = self._model.model, torch.zeros(1, 4, *self.latent, device=self.device)
        rows: list[dict[str, Any]] = []
        for prompt in prompts:
            conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
            (one, *_) = samplers.encode_model_conds(
                model.extra_conds, sampler_helpers.convert_cond(conditioning), noise, self.device, "positive"
            )
            rows.append(one["model_conds"])
        if "c_concat" in rows[0]:
            raise ContrastError("This model also needs an image to sample: compute the concept on an ordinary one.")
        tensors = {name: first.concat([row[name] for row in rows[1:]]) for name, first in rows[0].items()}
        return HostCondition({name: tensor.to(self.device) for name, tensor in tensors.items()})

    @contextmanager
    def attending(self, attend: Attend) -> Iterator[None]:
        """Within the context, `attend` is called with what every cross-attention layer adds and may replace it."""
        self._attend = attend
        try:
            yield
        finally:
            self._attend = None

    def predict(self, z: torch.Tensor, t: torch.Tensor, condition: HostCondition) -> torch.Tensor:
        """The predicted noise (rows, 4, height, width) of latents z like it, in fp32; t (rows,) are timesteps, long."""
        sigma = self._sigma(t).to(z)
        shape = sigma.view(-1, 1, 1, 1)
        x = z * (shape**2 + 1).sqrt()
        denoised: torch.Tensor = self._model.model.apply_model(
            x, sigma, transformer_options=self._options(sigma), **condition.tensors
        )
        return (x - denoised.float()) / shape

    def _sigma(self, t: torch.Tensor) -> torch.Tensor:
        sampling = self._model.get_model_object("model_sampling")
        sigma: torch.Tensor = sampling.sigma(t.to(sampling.sigmas.device))
        return sigma

    def _options(self, sigma: torch.Tensor) -> dict[str, Any]:
        """The model's own options without steering, and with the hook behind all other patches of the layers."""
        options = dict(self._model.model_options.get("transformer_options", {}))
        patches = {
            name: [one for one in held if not isinstance(one, (HSpacePatch, LayerPatch))]
            for name, held in options.get("patches", {}).items()
        }

        def at_layer(x: torch.Tensor, extra_options: dict[str, Any]) -> torch.Tensor:
            kind, number = extra_options["block"]
            site = attention_site(kind, number, extra_options.get("block_index", 0))
            changed = self._attend(site, x) if self._attend is not None else None
            return x if changed is None else changed

        patches["attn2_output_patch"] = [*patches.get("attn2_output_patch", []), at_layer]
        return {**options, "patches": patches, "sigmas": sigma, "cond_or_uncond": [0]}
