"""RAM and SAM in training: fp32 parameters, an Adam optimiser for each, and the order of their updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch

from ..adapter.transforms import Transform, initial
from ..names import Kind, Update
from .objective import FrozenPredictions, ScoreMatching
from .trajectories import Trajectories

Role = Literal["ram", "sam"]
ROLES: tuple[Role, ...] = ("ram", "sam")
_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class StepResult:
    """The result of a training step: both losses as scalars on the device, and the steered noise (rows, 4, h, w)."""

    ram_loss: torch.Tensor
    sam_loss: torch.Tensor
    steered: torch.Tensor


class Learner:
    """The two modules of one concept in training, which add zero at first. `shape` is (C, H, W) of h.

    `sequential` is the paper's order: RAM is updated, then SAM with the updated RAM. `joint` computes both gradients
    with the same RAM, in one decoder call and one backward pass. `shared` is the paper's ablation of two modules
    (section 5): a single module, stored as RAM, is updated by RAM's loss at RAM's learning rate and then by SAM's loss
    at SAM's. `average` is applied to every gradient (the mean over processes). `sam_rate` 0 trains only RAM.
    """

    def __init__(
        self,
        kind: Kind,
        shape: tuple[int, int, int],
        *,
        ram_rate: float,
        sam_rate: float,
        sam_weight: float = 1.0,
        update: Update = "sequential",
        hidden: int = 0,
        seed: int = 0,
        device: torch.device | str = "cpu",
        average: Callable[[torch.Tensor], torch.Tensor] = lambda gradient: gradient,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.kind = kind
        self.update = update
        self.sam_weight = sam_weight
        self._average = average
        self._parameters: dict[Role, dict[str, torch.nn.Parameter]] = {
            role: {
                name: torch.nn.Parameter(tensor.to(device))
                for name, tensor in initial(kind, shape, hidden, generator).items()
            }
            for role in ROLES
        }
        # The parameters that the loss of each role updates.
        self._updated = {role: self._parameters["ram" if update == "shared" else role] for role in ROLES}
        rates: dict[Role, float] = {"ram": ram_rate, "sam": sam_rate}
        self._optimisers = {
            role: torch.optim.Adam(self._updated[role].values(), lr=rates[role], betas=_BETAS, eps=_EPS)
            for role in ROLES
        }
        self.trains_sam = sam_rate > 0

    @property
    def ram(self) -> Transform:
        return self._module("ram")

    @property
    def sam(self) -> Transform:
        return self._module("sam")

    @property
    def modules(self) -> tuple[Transform, Transform]:
        """RAM and SAM as they are now."""
        return self.ram, self.sam

    def step(self, objective: ScoreMatching, frozen: FrozenPredictions) -> StepResult:
        """One update of RAM and one of SAM."""
        return self._joint(objective, frozen) if self.update == "joint" else self._one_by_one(objective, frozen)

    def _one_by_one(self, objective: ScoreMatching, frozen: FrozenPredictions) -> StepResult:
        ram_loss = _mse(objective.steered(frozen, self.ram), frozen.target)
        self._backward(ram_loss, frozen)
        self._optimise("ram", frozen)
        with torch.set_grad_enabled(self.trains_sam):
            modules = (self.ram,) if self.update == "shared" else (self.ram.detach(), self.sam)
            steered = objective.steered(frozen, *modules)
            sam_loss = self.sam_weight * _mse(steered, frozen.plain)
        if self.trains_sam:
            self._backward(sam_loss, frozen)
            self._optimise("sam", frozen)
        return StepResult(ram_loss.detach(), sam_loss.detach(), steered.detach())

    def _joint(self, objective: ScoreMatching, frozen: FrozenPredictions) -> StepResult:
        sam = self.sam if self.trains_sam else self.sam.detach()
        alone, steered = objective.steered_both(frozen, self.ram, sam)
        ram_loss = _mse(alone, frozen.target)
        sam_loss = self.sam_weight * _mse(steered, frozen.plain)
        self._backward(ram_loss + sam_loss, frozen)
        self._optimise("ram", frozen)
        if self.trains_sam:
            self._optimise("sam", frozen)
        return StepResult(ram_loss.detach(), sam_loss.detach(), steered.detach())

    def _backward(self, loss: torch.Tensor, frozen: FrozenPredictions) -> None:
        # The backward pass uses the sum over the latent instead of the mean, since small gradients would underflow in a
        # decoder in fp16. `_optimise` divides again.
        (loss * frozen.z[0].numel()).backward()

    def _optimise(self, role: Role, frozen: FrozenPredictions) -> None:
        for parameter in self._updated[role].values():
            assert parameter.grad is not None
            parameter.grad = self._average(parameter.grad / frozen.z[0].numel())
        self._optimisers[role].step()
        self._optimisers[role].zero_grad()

    def _module(self, role: Role) -> Transform:
        return Transform(self.kind, MappingProxyType(dict(self._parameters[role])))

    def start_from(self, ram: Transform, sam: Transform) -> None:
        """Begin at these modules, which must have the learner's kind and sizes (constants are resampled)."""
        for role, module in zip(ROLES, (ram, sam), strict=True):
            for name, parameter in self._parameters[role].items():
                tensor = module.field(*parameter.shape[1:]) if self.kind == "constant" else module.tensors[name]
                parameter.data.copy_(tensor)

    def finished(self) -> tuple[Transform, Transform]:
        """Copies of RAM and SAM in their current state, on the CPU."""
        copies = [
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._parameters[role].items()}
            for role in ROLES
        ]
        return Transform.of(copies[0]), Transform.of(copies[1])

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that an exact resume needs: parameters and Adam's moments."""
        state = {}
        for role in ROLES:
            for name, parameter in self._parameters[role].items():
                key = f"{role}/{name}"
                state[key] = parameter.detach()
                for moment, value in self._optimisers[role].state[self._updated[role][name]].items():
                    state[f"{key}/{moment}"] = value
        return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a `state`."""
        for role in ROLES:
            for name, parameter in self._parameters[role].items():
                key = f"{role}/{name}"
                parameter.data.copy_(state[key])
                moments = {k.removeprefix(key + "/"): v for k, v in state.items() if k.startswith(key + "/")}
                if moments:
                    self._optimisers[role].state[self._updated[role][name]] = {
                        moment: value.clone().to("cpu" if moment == "step" else parameter.device)
                        for moment, value in moments.items()
                    }


def train_step(
    step: int, trajectories: Trajectories, objective: ScoreMatching, learner: Learner
) -> tuple[FrozenPredictions, StepResult]:
    """Train on the next states, then advance their trajectories; `step` counts from 1."""
    batch = trajectories.next(step, learner.modules)
    frozen = objective.predict_frozen(batch.z, batch.t, batch.neutral)
    result = learner.step(objective, frozen)
    trajectories.advance(frozen, result.steered)
    return frozen, result


def _mse(noise: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of a noise prediction."""
    return (noise - target).square().mean()
