"""What a training run consists of, made from its recipe."""

from __future__ import annotations

from functools import partial

import torch
from accelerate import Accelerator

from ...respodiff_core.learning.diffusion import Schedule
from ...respodiff_core.learning.learner import Learner
from ...respodiff_core.learning.objective import Prompts, ReferenceScoreMatching, ScoreMatching
from ...respodiff_core.learning.trajectories import FreshRollouts, Pool, ProcessShard, RolloutConfig, Trajectories
from ..base.devices import load_as
from ..base.model import BaseModel
from ..base.spec import TOYWORLD
from ..recipes.strict import RecipeError
from ..recipes.training import ConceptRecipe, Recipe, TrainingRecipe
from ..toyworld.world import unknown_words, words

_HIDDEN_SHARE = 4


def open_base(recipe: Recipe, device: torch.device) -> BaseModel:
    """The base model of a recipe. Raises RecipeError where ToyWorld does not know a prompt's words."""
    check_words(recipe)
    return load_as(recipe.base, recipe.training, device, checkpointing=recipe.training.checkpointing)


def check_words(recipe: Recipe) -> None:
    """Raise RecipeError where a prompt for ToyWorld has a word that it has no picture of."""
    if recipe.base != TOYWORLD:
        return
    for concept in recipe.concepts:
        if unknown := unknown_words([*concept.neutral, concept.target, concept.negative]):
            raise RecipeError(
                f"ToyWorld has never seen {', '.join(map(repr, unknown))} (concept {concept.name!r}). Its own presets "
                f"start with toyworld/, and its words are: {', '.join(words())}."
            )


def hidden_width(training: TrainingRecipe, channels: int) -> int:
    """How wide mlp and conv modules are inside: a fourth of h's channels, unless the recipe says otherwise."""
    return training.hidden or max(channels // _HIDDEN_SHARE, 1)


def new_learner(base: BaseModel, concept: ConceptRecipe, training: TrainingRecipe, accelerator: Accelerator) -> Learner:
    """RAM and SAM of a concept, at zero."""
    shape = base.h_shape(*base.latent_size)
    return Learner(
        training.kind,
        shape,
        ram_rate=concept.ram_rate,
        sam_rate=concept.sam_rate,
        sam_weight=concept.sam_weight,
        update=training.update,
        hidden=hidden_width(training, shape[0]),
        seed=training.seed,
        device=accelerator.device,
        average=partial(mean_over_processes, accelerator),
    )


def mean_over_processes(accelerator: Accelerator, tensor: torch.Tensor) -> torch.Tensor:
    """The same in all processes, so that all learn and act alike."""
    mean: torch.Tensor = accelerator.reduce(tensor, reduction="mean")
    return mean


def new_objective(base: BaseModel, concept: ConceptRecipe, training: TrainingRecipe, prompts: Prompts) -> ScoreMatching:
    """The losses of a concept."""
    kind = ReferenceScoreMatching if training.rollout == "reference" else ScoreMatching
    return kind(base.denoiser, prompts, concept.guidance, training.rollout_guidance)


def new_trajectories(
    base: BaseModel, objective: ScoreMatching, training: TrainingRecipe, share: ProcessShard, device: torch.device
) -> Trajectories:
    """Where the states to train on come from; the last DDIM step is not trained on (paper, section 5)."""
    config = RolloutConfig(
        Schedule.of(base.alphas_cumprod, training.schedule_steps),
        states=training.schedule_steps - 1,
        batch=training.batch,
        latent=base.latent_size,
        seed=training.seed,
        share=share,
        device=device,
    )
    return (
        FreshRollouts(objective, config) if training.rollout == "reference" else Pool(objective, config, training.pool)
    )


def encode_concept(base: BaseModel, concept: ConceptRecipe, device: torch.device) -> Prompts:
    """The concept's prompts as the UNet reads them."""
    return Prompts.of(
        lambda texts: base.encode_prompts(texts).to(device),
        neutrals=concept.neutral,
        positive=concept.target or None,
        negative=concept.negative,
    )
