"""Sampling as in the paper: deterministic DDIM (eta 0) and classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Schedule:
    """The states that `steps` DDIM steps pass through: state k is a noisy latent at timestep `timesteps[k]`.

    `timesteps` (steps,) are long and descending; `alphas` (steps + 1,) are the cumulative alphas of the states in fp32,
    the last one that of the finished latent.
    """

    timesteps: torch.Tensor
    alphas: torch.Tensor

    @classmethod
    def of(cls, alphas_cumprod: torch.Tensor, steps: int) -> Schedule:
        """The schedule for cumulative alphas (timesteps,) of a base model, with leading spacing and offset 1 as in SD.

        Raises ValueError if `steps` is more than half the number of timesteps.
        """
        stride = len(alphas_cumprod) // steps
        if stride < 2:
            raise ValueError(
                f"at most {len(alphas_cumprod) // 2} steps are possible with {len(alphas_cumprod)} timesteps"
            )
        timesteps = torch.arange(steps).flip(0) * stride + 1
        earlier = torch.cat([alphas_cumprod[timesteps], alphas_cumprod[:1]])
        return cls(timesteps, earlier.float())

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def sigmas(self) -> torch.Tensor:
        """The noise level of each state (steps + 1,), as samplers and ComfyUI count it: noise over signal."""
        return ((1 - self.alphas) / self.alphas).sqrt()

    def to(self, device: torch.device | str) -> Schedule:
        """The same schedule on the given device."""
        return Schedule(self.timesteps.to(device), self.alphas.to(device))

    def advance(
        self, z: torch.Tensor, noise: torch.Tensor, state: torch.Tensor, steps: int | torch.Tensor = 1
    ) -> torch.Tensor:
        """One DDIM step from the `state` of each row (rows,) to the state `steps` later (one number, or one per row).

        z, the predicted noise and the result are (rows, 4, h, w).
        """
        now, then = (self.alphas[k].view(-1, 1, 1, 1) for k in (state, state + steps))
        clean = (z - (1 - now).sqrt() * noise) / now.sqrt()
        return then.sqrt() * clean + (1 - then).sqrt() * noise


def guided(negative: torch.Tensor, positive: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance of two noise predictions: negative + scale * (positive - negative)."""
    return negative + scale * (positive - negative)
