"""A loaded MODEL and CLIP as the denoiser that concepts are trained on and computed from (learning.denoiser)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from comfy import model_management, sampler_helpers, samplers
from comfy.model_patcher import ModelPatcher

from ...respodiff_core.errors import ContrastError
from ...respodiff_core.learning.denoiser import Attend
from ...respodiff_core.sites import attention_site
from . import split_unet
from .attach import HSpacePatch, LayerPatch
from .normal_weights import differentiable
from .split_unet import Bottleneck
from .unet import attention_blocks, check_noise, family_of, prediction_of

_TIMESTEPS = 1000
_NATIVE = {"sdxl": 128, "sd2": 96}
_NATIVE_LATENT = 64
_PROMPTS = 4  # most prompts that are predicted at once for each latent
# Bytes that a decoder pass saves for the backward pass, per latent pixel and byte of the data type (counted: 59 000 for
# SD1.5, 90 000 for SDXL), and the share of it that is needed with checkpointing.
_GRADIENTS, _RECOMPUTED = 90_000, 0.3


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

    @staticmethod
    def cat(parts: Sequence[HostCondition]) -> HostCondition:
        """The rows of all parts, in their order; all parts must have the same tensors."""
        return HostCondition({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})


@dataclass(frozen=True)
class Carry:
    """The decoder's inputs besides h: latents z (rows, 4, height, width), noise levels (rows,), and the UNet's own."""

    z: torch.Tensor
    sigma: torch.Tensor
    unet: Bottleneck

    def rows(self, index: slice | torch.Tensor) -> Carry:
        """The carry of these rows."""
        return Carry(self.z[index], self.sigma[index], self.unet.rows(index))


class HostDenoiser:
    """The denoiser of a MODEL, with its LoRAs and other patches, but not steered by this pack.

    `latent` is the (height, width) of latents, None for the native size of the family. Raises ModelMismatchError for
    models that are not image UNets.
    """

    def __init__(self, model: ModelPatcher, latent: tuple[int, int] | None = None) -> None:
        family = family_of(model)
        check_noise(model)
        self.latent = latent or (_NATIVE.get(family, _NATIVE_LATENT),) * 2
        self.device: torch.device = model.load_device
        self._checkpointing = False
        self._model = model
        self._sites = [site for site, _ in attention_blocks(model)]
        self._attend: Attend | None = None
        self._room = 0.0
        self._sampling = model.get_model_object("model_sampling")
        # Others go by way of ComfyUI's scaled latent and denoised image, which loses digits at low and high noise.
        self._prediction = prediction_of(model)
        # Tables, since the model may be on another device than the latents.
        sigmas = self._sampling.sigmas
        if len(sigmas) != _TIMESTEPS:  # those of a distilled model have gaps
            sigmas = self._sampling.sigma(torch.arange(_TIMESTEPS, device=sigmas.device))
        self._sigmas = sigmas.float().to(self.device)
        self._times = self._sampling.timestep(sigmas).float().to(self.device)

    @property
    def attention_sites(self) -> Sequence[str]:
        return self._sites

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """The noise schedule (timesteps,), fp32 on the CPU."""
        return 1 / (1 + self._sigmas.cpu() ** 2)

    @property
    def _unet(self) -> Any:
        unet = self._model.model.diffusion_model
        return getattr(unet, "_orig_mod", unet)  # a compiled one cannot be split

    @contextmanager
    def loaded(self, rows: int, more: float = 0) -> Iterator[None]:
        """Within the context, the model is in memory, with room for evaluating this many latents and `more` bytes."""
        self._room = self._model.memory_required((rows, 4, *self.latent)) + more
        self.load()
        self._model.pre_run()
        try:
            yield
        finally:
            self._model.cleanup()

    @torch.inference_mode()
    def load(self) -> None:
        """Load the model again within `loaded`, after another one may have taken its memory."""
        # In inference mode, since LoRAs are applied to weights in place.
        model_management.load_models_gpu([self._model], memory_required=self._room)

    @contextmanager
    def loaded_to_train(self, rows: int, checkpointing: str) -> Iterator[None]:
        """Within the context, the model is in memory, with room for a training step on this many latents.

        `checkpointing` is "on", "off", or "auto": if the gradients would not fit into the memory that is free.
        """
        gradients = _GRADIENTS * rows * prod(self.latent) * self.dtype.itemsize
        recomputed = gradients * _RECOMPUTED
        with self.loaded(_PROMPTS * rows, recomputed if checkpointing == "on" else gradients):
            is_short = model_management.get_free_memory(self.device) < gradients
            self._checkpointing = checkpointing == "on" or (checkpointing == "auto" and is_short)
            yield

    def differentiable(self) -> AbstractContextManager[None]:
        """Within the context, predictions are differentiable; the model must be loaded and stay where it is."""
        return differentiable(self._unet)

    def encode_prompts(self, clip: Any, prompts: list[str]) -> HostCondition:
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
        sigma = self._sigmas[t]
        shape = sigma.view(-1, 1, 1, 1)
        x = z * (shape**2 + 1).sqrt()
        denoised: torch.Tensor = self._model.model.apply_model(
            x, sigma, transformer_options=self._options(sigma), **condition.tensors
        )
        return (x - denoised.float()) / shape

    @torch.no_grad()
    def encode(self, z: torch.Tensor, t: torch.Tensor, condition: HostCondition) -> tuple[torch.Tensor, Carry]:
        """h (rows, C, H, W) in the UNet's dtype, and the carry; as `predict`."""
        model_management.throw_exception_if_processing_interrupted()
        dtype, sigma = self.dtype, self._sigmas[t]
        x = z
        if self._prediction is None:
            x = self._sampling.calculate_input(sigma, z * (sigma.view(-1, 1, 1, 1) ** 2 + 1).sqrt())
        y = condition.tensors.get("y")
        h, at = split_unet.encode(
            self._unet,
            x.to(dtype),
            self._times[t],
            condition.tokens.to(dtype),
            None if y is None else y.to(dtype),
            self._options(sigma),
        )
        return h, Carry(z, sigma, at)

    def decode(self, h: torch.Tensor, carry: Carry, condition: HostCondition) -> torch.Tensor:
        """The predicted noise (rows, 4, height, width), fp32; differentiable with respect to h."""
        context, options = condition.tokens.to(self.dtype), self._options(carry.sigma)
        output = split_unet.decode(self._unet, h, carry.unet, context, options, checkpointing=self._checkpointing)
        return self._noise(output.float(), carry.z, carry.sigma.view(-1, 1, 1, 1))

    def take(self, carry: Carry, rows: slice | torch.Tensor) -> Carry:
        """The carry of the given rows: a slice, or indices (long) in their order."""
        return carry.rows(rows)

    @property
    def latent_format(self) -> Any:
        """ComfyUI's description of the latents."""
        return self._model.model.latent_format

    @property
    def dtype(self) -> torch.dtype:
        """The data type that the UNet computes in."""
        dtype: torch.dtype = self._model.model.get_dtype_inference()
        return dtype

    def _noise(self, output: torch.Tensor, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The noise that a UNet's output stands for."""
        if self._prediction == "epsilon":
            return output
        if self._prediction == "v":
            return (output + sigma * z) / (sigma**2 + 1).sqrt()
        x = z * (sigma**2 + 1).sqrt()
        denoised: torch.Tensor = self._sampling.calculate_denoised(sigma, output, x)
        return (x - denoised) / sigma

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
