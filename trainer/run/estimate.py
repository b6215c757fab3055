"""Estimated cost of a training run: UNet evaluations and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode

from ...respodiff_core.adapter.transforms import initial
from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.learning.trajectories import steps_before_training
from ..base.unet_denoiser import UNetDenoiser
from ..recipes.training_recipe import ConceptRecipe, Recipe
from ..support.interrupts import shielded

_ROWS_PER_SAMPLE = 5  # encoder on 3 prompts; decoder on 3, with RAM, with both; two backward passes: halves of a UNet
_TOKENS = 77
_PROMPTS = 3  # prompts whose encoder states are held at the same time


@dataclass(frozen=True)
class Estimate:
    """Training `samples`, UNet `evaluations` on one latent, and bytes on the device by use."""

    samples: int
    evaluations: float
    weights: int
    activations: int
    modules: int

    @property
    def memory(self) -> int:
        """Bytes on the device while training; the text encoders have been released by then."""
        return self.weights + self.activations + self.modules


def estimate(
    recipe: Recipe, unet_config: dict[str, Any], latent: tuple[int, int], dtype: torch.dtype, pooled: bool
) -> Estimate:
    """Cost of a recipe on a UNet with this diffusers config. No weights are loaded (fake tensors)."""
    training = recipe.training
    # Not the device "meta": there attention falls back to the plain formula and keeps tokens * tokens values, which no
    # real device does.
    with shielded(), FakeTensorMode():  # an exception raised in a callback from C++ would abort the process
        with default_dtype(dtype):  # such a network cannot be cast afterwards
            unet = UNet2DConditionModel(**unet_config)
        activations, h_shape = _activations(unet, latent, training.batch, pooled, training.checkpointing)
        module = initial(training.kind, h_shape, training.hidden_width(h_shape[0]), torch.Generator())
    # RAM and SAM, each with its gradient and Adam's two moments, in fp32.
    modules = 2 * 4 * 4 * sum(tensor.numel() for tensor in module.values())
    return Estimate(
        samples=sum(concept.steps * training.batch for concept in recipe.concepts),
        evaluations=sum(_evaluations(recipe, concept) for concept in recipe.concepts),
        weights=sum(parameter.numel() for parameter in unet.parameters()) * dtype.itemsize,
        activations=activations,
        modules=modules,
    )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype within the context."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _evaluations(recipe: Recipe, concept: ConceptRecipe) -> float:
    training = recipe.training
    samples = concept.steps * training.batch
    states = training.states
    if training.rollout == "reference":
        return samples * (2 * (states - 1) / 2 + 10)
    rollout = 2 * steps_before_training(training.pool, states)
    per_sample = _ROWS_PER_SAMPLE + (1.0 if concept.target and concept.negative else 0.0)
    if not concept.sam_rate:
        per_sample -= 0.5  # no backward pass for SAM
    return samples * per_sample + rollout


def _activations(
    unet: UNet2DConditionModel, latent: tuple[int, int], batch: int, pooled: bool, checkpointing: bool
) -> tuple[int, tuple[int, int, int]]:
    """Bytes held for the losses and the gradient, and the shape of h; counted on fake tensors."""
    denoiser = UNetDenoiser(unet, torch.ones(1000), checkpointing=False)
    z = torch.empty(batch, 4, *latent)
    t = torch.empty(batch, dtype=torch.long)
    context = torch.empty(batch, _TOKENS, unet.config.cross_attention_dim)
    condition = Condition(context)
    if pooled:
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        condition = Condition(context, torch.empty(batch, width), torch.empty(batch, 6))
    h, carry = denoiser.encode(z, t, condition)
    skips = _PROMPTS * sum(_bytes(skip) for skip in carry.skips)
    kept = [0]  # bytes per decoder block, and of the layers after the last block
    alive: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = id(tensor.untyped_storage())
        if storage not in alive and not isinstance(tensor, torch.nn.Parameter):
            kept[-1] += _bytes(tensor)
        alive[storage] = tensor
        return tensor

    for block in unet.up_blocks:
        block.register_forward_pre_hook(lambda *_: kept.append(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        denoiser.decode(h.requires_grad_(), carry, condition)
    # With checkpointing, only one block's inner states exist at a time.
    _, channels, height, width = h.shape
    return skips + (max(kept) if checkpointing else sum(kept)), (channels, height, width)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()
