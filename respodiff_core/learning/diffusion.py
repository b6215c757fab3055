"""Sampling as the method uses it: DDIM without noise (eta 0), and classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Schedule:
    """The states that `steps` DDIM steps pass through: state k is noisy latents at timestep `timesteps[k]`.

    `timesteps` (steps,) long, falling; `alphas` (steps + 1,) fp32: the share of signal in state k, cumulative; the
    last entry is that of the finished latent.
    """

    timesteps: torch.Tensor
    alphas: torch.Tensor

    @classmethod
    def of(cls, alphas_cumprod: torch.Tensor, steps: int) -> Schedule:
        """From the base model's cumulative alphas (timesteps,); as Stable Diffusion's own: leading, offset 1.

        `steps` are at most half the timesteps, so that the first is near pure noise; else ValueError.
        """
        stride = len(alphas_cumprod) // steps
        if stride < 2:
            raise ValueError(f"at most {len(alphas_cumprod) // 2} steps fit into {len(alphas_cumprod)} timesteps")
        timesteps = torch.arange(steps).flip(0) * stride + 1
        earlier = torch.cat([alphas_cumprod[timesteps], alphas_cumprod[:1]])
        return cls(timesteps, earlier.float())

    def __len__(self) -> int:
        return len(self.timesteps)

    def to(self, device: torch.device | str) -> Schedule:
        """The same schedule on another device."""
        return Schedule(self.timesteps.to(device), self.alphas.to(device))

    def advance(
        self, z: torch.Tensor, noise: torch.Tensor, state: torch.Tensor, steps: int | torch.Tensor = 1
    ) -> torch.Tensor:
        """One DDIM step from each row's own state (rows,) to its next, or to one so many `steps` further on.

        z and the predicted noise (rows, 4, h, w).
        """
        now, then = (self.alphas[k].view(-1, 1, 1, 1) for k in (state, state + steps))
        clean = (z - (1 - now).sqrt() * noise) / now.sqrt()
        return then.sqrt() * clean + (1 - then).sqrt() * noise


def guided(negative: torch.Tensor, positive: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance: from the negative prediction towards, and past, the positive one."""
    return negative + scale * (positive - negative)
