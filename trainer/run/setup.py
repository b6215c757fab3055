"""The parts of a training run, made from its recipe."""

from __future__ import annotations

from functools import partial

import torch
from accelerate import Accelerator

from ...respodiff_core.learning.fit import Fit, concept_prompts
from ...respodiff_core.learning.objective import Prompts
from ...respodiff_core.learning.trajectories import ProcessShard
from ..base.devices import load_as
from ..base.model import BaseModel
from ..recipes.strict import RecipeError
from ..recipes.training_recipe import ConceptRecipe, Recipe, TrainingRecipe
from ..worlds.lookup import world_of


def open_base(recipe: Recipe, device: torch.device) -> BaseModel:
    """The base model of a recipe. Raises RecipeError for a prompt that its world does not know."""
    check_words(recipe)
    return load_as(recipe.base, recipe.training, device, checkpointing=recipe.training.checkpointing)


def check_words(recipe: Recipe) -> None:
    """Raise RecipeError for a prompt that the base model's world does not know."""
    world = world_of(recipe.base)
    for concept in recipe.concepts:
        if objection := world.objection_to([*concept.neutral, concept.target, concept.negative]):
            raise RecipeError(f"Concept {concept.name!r} cannot be trained: {objection}")


def encode_concept(base: BaseModel, concept: ConceptRecipe, device: torch.device) -> Prompts:
    """The concept's prompts, encoded for the UNet."""
    return concept_prompts(concept, lambda texts: base.encode_prompts(texts).to(device))


def new_fit(
    base: BaseModel, concept: ConceptRecipe, training: TrainingRecipe, prompts: Prompts, accelerator: Accelerator
) -> Fit:
    """A new training of a concept: this process's part of it."""
    return Fit(
        base.denoiser,
        base.alphas_cumprod,
        concept,
        prompts,
        training,
        latent=base.latent_size,
        h_shape=base.h_shape(*base.latent_size),
        device=accelerator.device,
        shard=ProcessShard(accelerator.process_index, accelerator.num_processes),
        average=partial(mean_over_processes, accelerator),
    )


def mean_over_processes(accelerator: Accelerator, tensor: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, the same value in each."""
    mean: torch.Tensor = accelerator.reduce(tensor, reduction="mean")
    return mean
