"""Sources of training states: sampling trajectories under the neutral prompt, with the current modules.

The states must be on-policy: those that the sampler reaches with the current RAM and SAM. `Pool` keeps many
trajectories at staggered states, trains on every state that they pass, and advances them with predictions that the
losses need anyway. `FreshRollouts` is the paper's method: a new rollout per step, which is discarded afterwards.
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
    """States to train on: z (rows, 4, h, w), timesteps t and neutral prompts (rows of the table), both (rows,) long."""

    z: torch.Tensor
    t: torch.Tensor
    neutral: torch.Tensor


@dataclass(frozen=True)
class ProcessShard:
    """The part of all trajectories that this process has: part `index` of `count`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class RolloutConfig:
    """How trajectories are sampled: the first `states` states of the schedule are trained on, `batch` at a time, with
    latents of size (height, width), and all random numbers depend on `seed`.
    """

    schedule: Schedule
    states: int
    batch: int
    latent: tuple[int, int]
    seed: int
    shard: ProcessShard = ProcessShard()
    device: torch.device | str = "cpu"


class Trajectories(Protocol):
    """A source of on-policy states."""

    def next(self, step: int, modules: Sequence[Transform]) -> Batch:
        """The states to train on in this step."""
        ...

    def advance(self, frozen: FrozenPredictions, steered: torch.Tensor) -> None:
        """Advance the trajectories with the predictions of this step."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that an exact resume needs besides the step number; z only for the shard of this process."""
        ...

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a `state`."""
        ...


class _Start(NamedTuple):
    """The initial noise z (4, h, w) and the neutral prompt of a trajectory."""

    z: torch.Tensor
    neutral: int

    @classmethod
    def of(cls, key: tuple[int, ...], prompts: Prompts, latent: tuple[int, int]) -> _Start:
        generator = _generator(*key)
        neutral = prompts.neutrals[int(torch.randint(len(prompts.neutrals), (), generator=generator))]
        return cls(torch.randn(4, *latent, generator=generator), neutral)


_FIRST_STEPS = 8  # number of long steps from the first to the last state in a pool's first rollout


def steps_before_training(size: int, states: int) -> int:
    """Number of sampling steps, with two UNet evaluations each, that roll a pool out to its staggered states."""
    return sum(-(-stage // _long_step(states)) for stage in _staggered(range(size), size, states))


def _staggered(numbers: Iterable[int], size: int, states: int) -> list[int]:
    return [number * states // size for number in numbers]


def _long_step(states: int) -> int:
    return max(states // _FIRST_STEPS, 1)


class Pool:
    """Trajectories at staggered states: trajectory i of n starts at state i * states / n, so that the states trained
    on are always uniform over the schedule.

    Steps train in turn on batches of this process's `size` trajectories that are as far apart as possible. A trajectory
    that has passed all states restarts with new noise, which does not depend on the process.
    """

    def __init__(self, objective: ScoreMatching, config: RolloutConfig, size: int) -> None:
        if size % config.batch:
            raise ValueError(f"a pool of {size} must be a multiple of the batch size ({config.batch})")
        self._objective = objective
        self._config = config
        self._schedule = config.schedule.to(config.device)
        self._device = config.device
        self._size = size
        total = size * config.shard.count
        self._numbers = range(config.shard.index * size, (config.shard.index + 1) * size)
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
        """Advance the trained trajectories with the predictions of the step, and restart the finished ones."""
        self._move(self._slots, self._objective.sampler_noise(frozen, steered), [1] * len(self._slots))
        for slot in self._slots:
            if self._stages[slot] == self._config.states:
                self._restarts[slot] += 1
                self._stages[slot] = 0
                self._restart(slot)

    def state(self) -> dict[str, torch.Tensor]:
        """z, and each trajectory's stage, number of restarts and neutral prompt (on the CPU)."""
        counters = torch.tensor([self._stages, self._restarts, self._neutrals]).T
        return {"z": self._z, "counters": counters.contiguous()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a `state`."""
        self._z.copy_(state["z"])
        self._stages, self._restarts, self._neutrals = (list(column) for column in state["counters"].T.tolist())
        self._rolled_out = True

    def _roll_out(self, modules: Sequence[Transform]) -> None:
        # Separate noise for each trajectory, since parts of a single one would be correlated. Long steps, since a short
        # training would otherwise spend its time here; batches as in a training step, to need no more memory.
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
        stages = self._on_device(self._stages[slot] for slot in slots)
        neutral = self._on_device(self._neutrals[slot] for slot in slots)
        return Batch(self._z[self._on_device(slots)], self._schedule.timesteps[stages], neutral)

    def _move(self, slots: Sequence[int], noise: torch.Tensor, steps: Sequence[int]) -> None:
        index = self._on_device(slots)
        stages = self._on_device(self._stages[slot] for slot in slots)
        self._z[index] = self._schedule.advance(self._z[index], noise, stages, self._on_device(steps))
        for slot, count in zip(slots, steps, strict=True):
            self._stages[slot] += count

    def _on_device(self, numbers: Iterable[int]) -> torch.Tensor:
        return _upload(torch.tensor(list(numbers)), self._device)


_STOP = 2**32 - 1  # replaces the row number in the key of the random state to stop at


class FreshRollouts:
    """The paper's loop: each step samples new noise for k steps, with k uniform over the states, and discards it."""

    def __init__(self, objective: ScoreMatching, config: RolloutConfig) -> None:
        self._objective = objective
        self._config = config
        self._schedule = config.schedule.to(config.device)
        self._device = config.device

    def next(self, step: int, modules: Sequence[Transform]) -> Batch:
        """Roll out a new batch, whose rows all stop at the same state."""
        config = self._config
        # The same k in all processes, so that none has to wait.
        k = int(torch.randint(config.states, (), generator=_generator(config.seed, step, _STOP)))
        rows = range(config.shard.index * config.batch, (config.shard.index + 1) * config.batch)
        starts = [_Start.of((config.seed, step, row), self._objective.prompts, config.latent) for row in rows]
        z = _upload(torch.stack([one.z for one in starts]), self._device)
        neutral = _upload(torch.tensor([one.neutral for one in starts]), self._device)
        for stage in range(k):
            stages = torch.full_like(neutral, stage)
            noise = self._objective.rollout_noise(z, self._schedule.timesteps[stages], neutral, modules)
            z = self._schedule.advance(z, noise, stages)
        return Batch(z, self._schedule.timesteps[torch.full_like(neutral, k)], neutral)

    def advance(self, frozen: FrozenPredictions, steered: torch.Tensor) -> None:
        """Does nothing: trajectories are not reused."""

    def state(self) -> dict[str, torch.Tensor]:
        """Empty: trajectories are not reused."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Does nothing: the state is empty."""


def _generator(*key: int) -> torch.Generator:
    """A random generator that depends only on the key, and not on the platform."""
    (word,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word) >> 1)


def _upload(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on the device, without waiting for pending work of the device."""
    # Copies to a GPU are asynchronous only from pinned memory, whatever `non_blocking` says.
    source = tensor.pin_memory() if torch.device(device).type == "cuda" else tensor
    return source.to(device, non_blocking=True)
