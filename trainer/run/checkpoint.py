"""The saved state of a training: progress, finished concepts, modules, optimizer moments, trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...respodiff_core.adapter.concept import ModuleConcept
from ...respodiff_core.adapter.transforms import Transform
from ...respodiff_core.learning.fit import concept_info
from ...respodiff_core.learning.learner import ROLES
from ...respodiff_core.learning.trajectories import ProcessShard
from ..base.model import BaseModel
from ..recipes.training_recipe import Recipe
from .run_folder import ResumeError

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class RunState:
    """The state after `step` steps of concept number `concept`; training began on the date `begun`, on `processes`
    processes.

    `learner` and `trajectories` are their own states; trajectories of all processes are concatenated.
    """

    begun: str
    processes: int
    concept: int = 0
    step: int = 0
    finished: tuple[ModuleConcept, ...] = ()
    learner: Tensors = field(default_factory=dict)
    trajectories: Tensors = field(default_factory=dict)

    def pack(self, base: BaseModel) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The state as tensors by name, and as plain data."""
        tensors = {f"learner/{name}": tensor for name, tensor in self.learner.items()}
        tensors |= {f"trajectories/{name}": tensor for name, tensor in self.trajectories.items()}
        for index, concept in enumerate(self.finished):
            for role, module in zip(ROLES, (concept.ram, concept.sam), strict=True):
                tensors |= {f"finished/{index}/{role}/{name}": tensor for name, tensor in module.tensors.items()}
        progress = {
            "begun": self.begun,
            "processes": self.processes,
            "concept": self.concept,
            "step": self.step,
            "base_sha256": base.sha256,
            "finished": [dict(concept.info.training) for concept in self.finished],
        }
        return tensors, progress

    @classmethod
    def unpack(cls, tensors: Tensors, progress: Mapping[str, Any], base: BaseModel, recipe: Recipe) -> RunState:
        """Restore a packed state for a run of the same recipe. Raises ResumeError if the base model differs."""
        if progress["base_sha256"] != base.sha256:
            raise ResumeError(
                f"{base.name} is not the base model that this training was started on (sha256 {base.sha256[:12]}..., "
                f"it was {progress['base_sha256'][:12]}...): use the original base model, or start over with --restart."
            )
        finished = []
        for index, facts in enumerate(progress["finished"]):
            ram, sam = (Transform.of(_below(f"finished/{index}/{role}/", tensors)) for role in ROLES)
            finished.append(ModuleConcept(concept_info(recipe.concepts[index], base.latent_size, facts), ram, sam))
        return cls(
            progress["begun"],
            progress["processes"],
            progress["concept"],
            progress["step"],
            tuple(finished),
            _below("learner/", tensors),
            _below("trajectories/", tensors),
        )

    def trajectories_of(self, share: ProcessShard) -> dict[str, torch.Tensor]:
        """The trajectories of one process."""
        return {name: tensor.chunk(share.count)[share.index] for name, tensor in self.trajectories.items()}


def _below(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
