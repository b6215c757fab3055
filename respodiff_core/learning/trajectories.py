"""Where training states come from: sampling trajectories under the neutral prompt, with the current modules.

The states must be on-policy: what the sampler meets with RAM and SAM as they are now. `Pool` keeps many
trajectories at staggered states, trains on every state they pass through and moves them on with predictions that the
losses needed anyway. `FreshRollouts` is the paper's way: a new trajectory, rolled out and thrown away, per step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from ..adapter.transforms import Transform
from .diffusion import Schedule
from .objective import FrozenPredictions, Prompts, ScoreMatching


@dataclass(frozen=True)
class Batch:
    """States to train on: z (rows, 4, h, w), timesteps t and neutral prompts (rows of the table), both (rows,)."""

    z: torch.Tensor
    t: torch.Tensor
    neutral: torch.Tensor


@dataclass(frozen=True)
class ProcessShard:
    """Which part of all trajectories this process keeps: part `index` of `count`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class RolloutConfig:
    """How trajectories run: which states of the schedule are trained on (`states` of them, from pure noise on), `batch`
    at a time, latents of this height and width, all randomness from `seed`.
    """

    schedule: Schedule
    states: int
    batch: int
    latent: tuple[int, int]
    seed: int
    share: ProcessShard = ProcessShard()
    device: torch.device | str = "cpu"


class Trajectories(Protocol):
    """A source of on-policy states."""

    def next(self, step: int, modules: Sequence[Transform]) -> Batch:
        """The states to train on in this step."""
        ...

    def advance(self, frozen: FrozenPredictions, steered: torch.Tensor) -> None:
        """What the step found out about them."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """What must be kept, beside the step's number, to go on exactly; z of this process's share alone."""
        ...

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        ...


class _Start(NamedTuple):
    """The noise z (4, h, w) and the neutral prompt of a new trajectory."""

    z: torch.Tensor
    neutral: int

    @classmethod
    def of(cls, key: tuple[int, ...], prompts: Prompts, latent: tuple[int, int]) -> _Start:
        generator = _generator(*key)
        neutral = prompts.neutrals[int(torch.randint(len(prompts.neutrals), (), generator=generator))]
        return cls(torch.randn(4, *latent, generator=generator), neutral)


_FIRST_STEPS = 8  # long steps that would lead a pool's first trajectories through all states


def steps_before_training(size: int, states: int) -> int:
    """How many sampling steps, of two UNet evaluations each, lead a pool's trajectories to where they start."""
    return sum(-(-stage // _long_step(states)) for stage in _staggered(range(size), size, states))


def _staggered(numbers: Iterable[int], size: int, states: int) -> list[int]:
    return [number * states // size for number in numbers]


def _long_step(states: int) -> int:
    return max(states // _FIRST_STEPS, 1)


class Pool:
    """Trajectories at staggered states: number i of n starts at state i * states / n, so that the states trained on
    stay uniform over the schedule.

    A step trains on a batch of this process's `size` trajectories, as far apart as they can be, in turn. A trajectory
    that has passed all states is born again from noise of its own: the same whichever process keeps it.
    """

    def __init__(self, objective: ScoreMatching, config: RolloutConfig, size: int) -> None:
        if size % config.batch:
            raise ValueError(f"a pool of {size} cannot be trained on in batches of {config.batch}")
        self._objective = objective
        self._config = config
        self._schedule = config.schedule.to(config.device)
        self._device = config.device
        self._size = size
        total = size * config.share.count
        self._numbers = range(config.share.index * size, (config.share.index + 1) * size)
        self._stages = _staggered(self._numbers, total, config.states)
        self._restarts = [0] * size
        self._neutrals = [0] * size
        self._z = torch.empty(size, 4, *config.latent, device=config.device)
        self._slots: list[int] = []
        self._rolled_out = False

    def next(self, step: int, modules: Sequence[Transform]) -> Batch:
        """The states to train on in this step; the first call rolls the pool out to its staggered states."""
        if not self._rolled_out:
            self._roll_out(modules)
        stride = self._size // self._config.batch
        self._slots = [step % stride + place * stride for place in range(self._config.batch)]
        return self._read(self._slots)

    def advance(self, frozen: FrozenPredictions, steered: torch.Tensor) -> None:
        """Move the trained trajectories on, with the predictions of the step, and give the finished a new birth."""
        self._move(self._slots, self._objective.onwards(frozen, steered), [1] * len(self._slots))
        for slot in self._slots:
            if self._stages[slot] == self._config.states:
                self._restarts[slot] += 1
                self._stages[slot] = 0
                self._restart(slot)

    def state(self) -> dict[str, torch.Tensor]:
        """z and each trajectory's stage, birth and neutral prompt; the latter on the CPU, where they are."""
        counters = torch.tensor([self._stages, self._restarts, self._neutrals]).T
        return {"z": self._z, "counters": counters.contiguous()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        self._z.copy_(state["z"])
        self._stages, self._restarts, self._neutrals = (list(column) for column in state["counters"].T.tolist())
        self._rolled_out = True

    def _roll_out(self, modules: Sequence[Transform]) -> None:
        # Each trajectory from noise of its own, or they would all tell the same; in long steps, or a short training
        # would spend its time here. No more of them at once than a training step takes.
        wanted, self._stages = self._stages, [0] * self._size
        for slot in range(self._size):
            self._restart(slot)
        long = _long_step(self._config.states)
        while behind := [slot for slot in range(self._size) if self._stages[slot] < wanted[slot]]:
            for first in range(0, len(behind), self._config.batch):
                slots = behind[first : first + self._config.batch]
                at = self._read(slots)
                noise = self._objective.rollout_noise(at.z, at.t, at.neutral, modules)
                self._move(slots, noise, [min(long, wanted[slot] - self._stages[slot]) for slot in slots])
        self._rolled_out = True

    def _restart(self, slot: int) -> None:
        key = (self._config.seed, self._numbers[slot], self._restarts[slot])
        start = _Start.of(key, self._objective.prompts, self._config.latent)
        self._neutrals[slot] = start.neutral
        self._z[slot] = _upload(start.z, self._device)

    def _read(self, slots: Sequence[int]) -> Batch:
        stages = self._numbers_there(self._stages[slot] for slot in slots)
        neutral = self._numbers_there(self._neutrals[slot] for slot in slots)
        return Batch(self._z[self._numbers_there(slots)], self._schedule.timesteps[stages], neutral)

    def _move(self, slots: Sequence[int], noise: torch.Tensor, steps: Sequence[int]) -> None:
        index = self._numbers_there(slots)
        stages = self._numbers_there(self._stages[slot] for slot in slots)
        self._z[index] = self._schedule.advance(self._z[index], noise, stages, self._numbers_there(steps))
        for slot, count in zip(slots, steps, strict=True):
            self._stages[slot] += count

    def _numbers_there(self, numbers: Iterable[int]) -> torch.Tensor:
        return _upload(torch.tensor(list(numbers)), self._device)


_STOP = 2**32 - 1  # where a row's number stands in other keys: the draw of the state to stop at


class FreshRollouts:
    """The paper's loop: per step, new noise is sampled for k steps, k uniform over the states, and then dropped."""

    def __init__(self, objective: ScoreMatching, config: RolloutConfig) -> None:
        self._objective = objective
        self._config = config
        self._schedule = config.schedule.to(config.device)
        self._device = config.device

    def next(self, step: int, modules: Sequence[Transform]) -> Batch:
        """Roll out a batch; all its rows stop at the same state."""
        config = self._config
        # The same k in all processes, so that none waits for another.
        k = int(torch.randint(config.states, (), generator=_generator(config.seed, step, _STOP)))
        rows = range(config.share.index * config.batch, (config.share.index + 1) * config.batch)
        starts = [_Start.of((config.seed, step, row), self._objective.prompts, config.latent) for row in rows]
        z = _upload(torch.stack([one.z for one in starts]), self._device)
        neutral = _upload(torch.tensor([one.neutral for one in starts]), self._device)
        for stage in range(k):
            stages = torch.full_like(neutral, stage)
            noise = self._objective.rollout_noise(z, self._schedule.timesteps[stages], neutral, modules)
            z = self._schedule.advance(z, noise, stages)
        return Batch(z, self._schedule.timesteps[torch.full_like(neutral, k)], neutral)

    def advance(self, frozen: FrozenPredictions, steered: torch.Tensor) -> None:
        """Nothing is kept."""

    def state(self) -> dict[str, torch.Tensor]:
        """Nothing is kept."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing is kept."""


def _generator(*key: int) -> torch.Generator:
    """Random numbers that depend on the key alone, on every platform."""
    (word,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word) >> 1)


def _upload(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on the device, without waiting for what that still has to do."""
    # A GPU fetches memory by itself only where that is pinned; else the host waits, whatever `non_blocking` says.
    source = tensor.pin_memory() if torch.device(device).type == "cuda" else tensor
    return source.to(device, non_blocking=True)
