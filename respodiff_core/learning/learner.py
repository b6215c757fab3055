"""RAM and SAM while they are learned: fp32 tensors, one Adam each, and the order of their updates."""

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
    """One training step: both losses as they stand on the device (), and the steered noise (rows, 4, h, w)."""

    ram_loss: torch.Tensor
    sam_loss: torch.Tensor
    steered: torch.Tensor


class Learner:
    """The two modules of one concept in training, starting from zero.

    `sequential` is the paper's order: RAM's update, then SAM's against the RAM just updated. `joint` computes both
    gradients at the same RAM, in one decoder call and one backward pass. `shared` is the paper's ablation of two
    modules (section 5): one alone, kept as RAM, learns from RAM's loss at RAM's rate and then from SAM's at SAM's.
    `average` is applied to every gradient (a mean over processes). `sam_rate` 0 trains RAM alone.
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
        # What each role's loss moves.
        self._moved = {role: self._parameters["ram" if update == "shared" else role] for role in ROLES}
        rates: dict[Role, float] = {"ram": ram_rate, "sam": sam_rate}
        self._optimisers = {
            role: torch.optim.Adam(self._moved[role].values(), lr=rates[role], betas=_BETAS, eps=_EPS) for role in ROLES
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
        ram_loss = _mismatch(objective.steered(frozen, self.ram), frozen.target)
        self._backward(ram_loss, frozen)
        self._move("ram", frozen)
        with torch.set_grad_enabled(self.trains_sam):
            modules = (self.ram,) if self.update == "shared" else (self.ram.detach(), self.sam)
            steered = objective.steered(frozen, *modules)
            sam_loss = self.sam_weight * _mismatch(steered, frozen.plain)
        if self.trains_sam:
            self._backward(sam_loss, frozen)
            self._move("sam", frozen)
        return StepResult(ram_loss.detach(), sam_loss.detach(), steered.detach())

    def _joint(self, objective: ScoreMatching, frozen: FrozenPredictions) -> StepResult:
        sam = self.sam if self.trains_sam else self.sam.detach()
        alone, steered = objective.steered_both(frozen, self.ram, sam)
        ram_loss = _mismatch(alone, frozen.target)
        sam_loss = self.sam_weight * _mismatch(steered, frozen.plain)
        self._backward(ram_loss + sam_loss, frozen)
        self._move("ram", frozen)
        if self.trains_sam:
            self._move("sam", frozen)
        return StepResult(ram_loss.detach(), sam_loss.detach(), steered.detach())

    def _backward(self, loss: torch.Tensor, frozen: FrozenPredictions) -> None:
        # Summed over the latent instead of averaged while it runs through a half-precision decoder: small gradients
        # would vanish in fp16. `_move` divides again.
        (loss * frozen.z[0].numel()).backward()

    def _move(self, role: Role, frozen: FrozenPredictions) -> None:
        for parameter in self._moved[role].values():
            assert parameter.grad is not None
            parameter.grad = self._average(parameter.grad / frozen.z[0].numel())
        self._optimisers[role].step()
        self._optimisers[role].zero_grad()

    def _module(self, role: Role) -> Transform:
        return Transform(self.kind, MappingProxyType(dict(self._parameters[role])))

    def finished(self) -> tuple[Transform, Transform]:
        """RAM and SAM as they are now, on the CPU, apart from training."""
        copies = [
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._parameters[role].items()}
            for role in ROLES
        ]
        return Transform.of(copies[0]), Transform.of(copies[1])

    def state(self) -> dict[str, torch.Tensor]:
        """All that a later session needs to go on exactly: values and Adam's moments."""
        state = {}
        for role in ROLES:
            for name, parameter in self._parameters[role].items():
                key = f"{role}/{name}"
                state[key] = parameter.detach()
                for moment, value in self._optimisers[role].state[self._moved[role][name]].items():
                    state[f"{key}/{moment}"] = value
        return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        for role in ROLES:
            for name, parameter in self._parameters[role].items():
                key = f"{role}/{name}"
                parameter.data.copy_(state[key])
                moments = {k.removeprefix(key + "/"): v for k, v in state.items() if k.startswith(key + "/")}
                if moments:
                    self._optimisers[role].state[self._moved[role][name]] = {
                        moment: value.clone().to("cpu" if moment == "step" else parameter.device)
                        for moment, value in moments.items()
                    }


def train_step(
    step: int, trajectories: Trajectories, objective: ScoreMatching, learner: Learner
) -> tuple[FrozenPredictions, StepResult]:
    """Train on the states that are next, and let the trajectories go on; `step` counts from 1."""
    batch = trajectories.next(step, learner.modules)
    frozen = objective.predict_frozen(batch.z, batch.t, batch.neutral)
    result = learner.step(objective, frozen)
    trajectories.advance(frozen, result.steered)
    return frozen, result


def _mismatch(noise: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two noise predictions."""
    return (noise - wanted).square().mean()
