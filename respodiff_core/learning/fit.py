"""The training of one concept on any `Denoiser`, step by step.

fit = Fit.of(denoiser, alphas_cumprod, preset("gender/woman"), encode, latent=(64, 64))
for step in fit:
    print(step.number, float(step.losses.ram_loss))
concept = fit.finished()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..adapter.concept import Concept, ConceptInfo
from .denoiser import Condition, Denoiser
from .diffusion import Schedule
from .learner import Learner, StepResult, train_step
from .objective import FrozenPredictions, Prompts, ReferenceScoreMatching, ScoreMatching
from .settings import ConceptSettings, TrainingSettings, training_facts
from .trajectories import FreshRollouts, Pool, ProcessShard, RolloutConfig, Trajectories

Tensors = Mapping[str, torch.Tensor]
_WHOLE, _DEFAULTS = ProcessShard(), TrainingSettings()


@dataclass(frozen=True)
class FitStep:
    """One step of a training, counted from 1: its losses, and what the frozen model predicted."""

    number: int
    losses: StepResult
    frozen: FrozenPredictions


class Fit:
    """RAM and SAM of one concept, learned on a frozen denoiser (arXiv 2509.15257, section 4).

    Iterating trains: each item is a step that has been made, until `concept.steps`; a broken off iteration can be gone
    on with. `alphas_cumprod` (timesteps,) are the base model's cumulative alphas, `latent` the size (height, width) of
    latents, `h_shape` the denoiser's (C, H, W) at that size, found out by one encoder call where it is not given.
    In several processes each has its `shard` of the trajectories, and `average` makes gradients their mean.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        alphas_cumprod: torch.Tensor,
        concept: ConceptSettings,
        prompts: Prompts,
        training: TrainingSettings,
        *,
        latent: tuple[int, int],
        h_shape: tuple[int, int, int] | None = None,
        device: torch.device | str = "cpu",
        shard: ProcessShard = _WHOLE,
        average: Callable[[torch.Tensor], torch.Tensor] = lambda gradient: gradient,
    ) -> None:
        self.concept, self.training = concept, training
        self.latent, self.shard = latent, shard
        self.number = 0
        objective = ReferenceScoreMatching if training.rollout == "reference" else ScoreMatching
        self.objective: ScoreMatching = objective(denoiser, prompts, concept.guidance, training.rollout_guidance)
        shape = h_shape or _h_shape(denoiser, prompts, latent, device)
        self.learner = Learner(
            training.kind,
            shape,
            ram_rate=concept.ram_rate,
            sam_rate=concept.sam_rate,
            sam_weight=concept.sam_weight,
            update=training.update,
            hidden=training.hidden_width(shape[0]),
            seed=training.seed,
            device=device,
            average=average,
        )
        config = RolloutConfig(
            Schedule.of(alphas_cumprod, training.schedule_steps),
            states=training.states,
            batch=training.batch,
            latent=latent,
            seed=training.seed,
            share=shard,
            device=device,
        )
        self.trajectories: Trajectories = (
            FreshRollouts(self.objective, config)
            if training.rollout == "reference"
            else Pool(self.objective, config, training.pool)
        )

    @classmethod
    def of(
        cls,
        denoiser: Denoiser,
        alphas_cumprod: torch.Tensor,
        concept: ConceptSettings,
        encode: Callable[[list[str]], Condition],
        training: TrainingSettings = _DEFAULTS,
        **more: Any,
    ) -> Fit:
        """With prompts that `encode` turns into conditions, one row a text; `more` as for the class."""
        return cls(denoiser, alphas_cumprod, concept, concept_prompts(concept, encode), training, **more)

    def __iter__(self) -> Iterator[FitStep]:
        while self.number < self.concept.steps:
            yield self.step()

    def step(self) -> FitStep:
        """Make one step."""
        number = self.number + 1
        frozen, losses = train_step(number, self.trajectories, self.objective, self.learner)
        self.number = number
        return FitStep(number, losses, frozen)

    def resume(self, number: int, learner: Tensors, trajectories: Tensors) -> None:
        """Go on after step `number`, with what `learner` and `trajectories` gave as their states then."""
        self.number = number
        self.learner.load_state(learner)
        self.trajectories.load_state(trajectories)

    @property
    def facts(self) -> dict[str, Any]:
        """How the concept was trained until now, for its metadata, but for the seed."""
        return training_facts(self.concept, self.training, self.number, self.shard.count)

    def finished(self, **facts: Any) -> Concept:
        """The concept as it is now, on the CPU, apart from training; `facts` are told of beside the settings."""
        return self.described({**facts, **self.facts, "seed": self.training.seed})

    def described(self, training: Mapping[str, Any]) -> Concept:
        """The concept as it is now, on the CPU, apart from training, with this said of its training."""
        return Concept(concept_info(self.concept, self.latent, training), *self.learner.finished())


def concept_prompts(concept: ConceptSettings, encode: Callable[[list[str]], Condition]) -> Prompts:
    """The concept's prompts as the denoiser reads them, each distinct text encoded once, one row a text."""
    return Prompts.of(encode, neutrals=concept.neutral, positive=concept.target or None, negative=concept.negative)


def concept_info(concept: ConceptSettings, latent: tuple[int, int], training: Mapping[str, Any]) -> ConceptInfo:
    """What an adapter's metadata says of a concept; several neutral prompts stand beside each other. `latent` is
    (height, width), `training` says how it was trained.
    """
    return ConceptInfo(
        concept.name,
        concept.category,
        target=concept.target,
        neutral=" | ".join(concept.neutral),
        negative=concept.negative,
        latent_height=latent[0],
        latent_width=latent[1],
        training=training,
        axis=concept.axis,
        synonyms=tuple(concept.synonyms),
    )


def _h_shape(
    denoiser: Denoiser, prompts: Prompts, latent: tuple[int, int], device: torch.device | str
) -> tuple[int, int, int]:
    first = torch.zeros(1, dtype=torch.long, device=device)
    with torch.no_grad():
        h, _ = denoiser.encode(torch.zeros(1, 4, *latent, device=device), first, prompts.table.rows(first))
    channels, height, width = h.shape[1:]
    return channels, height, width
