"""Trains one concept on any `Denoiser`, step by step.

fit = Fit.of(denoiser, alphas_cumprod, preset("gender/woman"), encode, latent=(64, 64))
for step in fit:
    print(step.number, float(step.losses.ram_loss))
concept = fit.finished()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..adapter.concept import ConceptInfo, ModuleConcept
from ..adapter.transforms import Transform
from ..errors import TrainingDiverged
from .denoiser import Conditions, Denoiser
from .diffusion import Schedule
from .learner import Learner, StepResult, train_step
from .objective import FrozenPredictions, Prompts, ReferenceScoreMatching, ScoreMatching
from .settings import ConceptSettings, TrainingSettings, training_facts
from .trajectories import FreshRollouts, Pool, ProcessShard, RolloutConfig, Trajectories

Tensors = Mapping[str, torch.Tensor]
_WHOLE, _DEFAULTS = ProcessShard(), TrainingSettings()


@dataclass(frozen=True)
class FitStep:
    """One training step, counted from 1: its losses, and the predictions of the frozen model."""

    number: int
    losses: StepResult
    frozen: FrozenPredictions


class Fit:
    """Trains RAM and SAM of one concept on a frozen denoiser (arXiv 2509.15257, section 4).

    Iterating trains: each item is a completed step, up to `concept.steps`; an interrupted iteration can be continued.
    `alphas_cumprod` (timesteps,) are the base model's cumulative alphas, `latent` is the size (height, width) of
    latents, and `h_shape` that of h (C, H, W) for such latents, determined by one encoder call if it is not given. With
    several processes, each trains on its `shard` of the trajectories, and `average` returns the mean of a gradient.
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
            shard=shard,
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
        encode: Callable[[list[str]], Conditions],
        training: TrainingSettings = _DEFAULTS,
        **more: Any,
    ) -> Fit:
        """A `Fit` with prompts encoded by `encode`, one row per text; `more` are further arguments of the class."""
        return cls(denoiser, alphas_cumprod, concept, concept_prompts(concept, encode), training, **more)

    def __iter__(self) -> Iterator[FitStep]:
        while self.number < self.concept.steps:
            yield self.step()

    def step(self) -> FitStep:
        """Perform one training step."""
        number = self.number + 1
        frozen, losses = train_step(number, self.trajectories, self.objective, self.learner)
        self.number = number
        return FitStep(number, losses, frozen)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Copies of the states of the learner and of the trajectories, for `resume`."""
        states = self.learner.state(), self.trajectories.state()
        learner, trajectories = ({name: tensor.clone() for name, tensor in state.items()} for state in states)
        return learner, trajectories

    def resume(self, number: int, learner: Tensors, trajectories: Tensors) -> None:
        """Continue after step `number`, with the states of the learner and of the trajectories at that step."""
        self.number = number
        self.learner.load_state(learner)
        self.trajectories.load_state(trajectories)

    @property
    def facts(self) -> dict[str, Any]:
        """How the concept was trained so far, for its metadata, without the seed."""
        return training_facts(self.concept, self.training, self.number, self.shard.count)

    def finished(self, **facts: Any) -> ModuleConcept:
        """A copy of the concept in its current state, on the CPU; `facts` are added to its training metadata."""
        return self.described({**facts, **self.facts, "seed": self.training.seed})

    def described(self, training: Mapping[str, Any]) -> ModuleConcept:
        """A copy of the concept in its current state, on the CPU, with the given training metadata."""
        return ModuleConcept(concept_info(self.concept, self.latent, training), *self.learner.finished())


def checked_losses(losses: torch.Tensor, name: str, step: int) -> tuple[float, float]:
    """RAM's and SAM's loss (2,) as numbers. Raises TrainingDiverged if one is NaN or infinite."""
    ram_loss, sam_loss = losses.tolist()
    if not (math.isfinite(ram_loss) and math.isfinite(sam_loss)):
        raise TrainingDiverged(f"Training of {name!r} diverged: the loss is {ram_loss:g} at step {step}.")
    return ram_loss, sam_loss


@torch.no_grad()
def steering_share(h: torch.Tensor, modules: Sequence[Transform]) -> torch.Tensor:
    """Norm of what the modules add, relative to the norm of h: shows whether training has any effect."""
    added = sum(module.to(dtype=h.dtype)(h) for module in modules)
    assert isinstance(added, torch.Tensor)
    return added.expand_as(h).float().norm() / h.float().norm()


def concept_prompts(concept: ConceptSettings, encode: Callable[[list[str]], Conditions]) -> Prompts:
    """The encoded prompts of the concept: one row per distinct text."""
    return Prompts.of(encode, neutrals=concept.neutral, positive=concept.target or None, negative=concept.negative)


def concept_info(concept: ConceptSettings, latent: tuple[int, int], training: Mapping[str, Any]) -> ConceptInfo:
    """The metadata of the concept, with several neutral prompts separated by " | ". `latent` is (height, width), and
    `training` the training metadata.
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
