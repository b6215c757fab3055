"""DDIM sampling with classifier-free guidance; only the conditional half is steered, as in the nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .denoiser import Condition, Denoiser
from .diffusion import Schedule, guided

Steer = Callable[[torch.Tensor], torch.Tensor]
"""Returns the steered h for the h of the conditional rows, (rows, C, H, W)."""


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    schedule: Schedule,
    noise: torch.Tensor,
    condition: Condition,
    empty: Condition,
    *,
    guidance: float,
    steer: Steer | None = None,
) -> torch.Tensor:
    """Sample latents (rows, 4, h, w) from noise of the same shape, with one UNet call on 2 * rows per step.

    `condition` has one row per latent, `empty` (the unconditional prompt) a single row.
    """
    rows = len(noise)
    schedule = schedule.to(noise.device)
    conditions = Condition.cat([empty.rows(torch.zeros(rows, dtype=torch.long, device=noise.device)), condition])
    z = noise
    for stage in range(len(schedule)):
        stages = torch.full((rows,), stage, device=z.device)
        h, carry = denoiser.encode(z.repeat(2, 1, 1, 1), schedule.timesteps[stages].repeat(2), conditions)
        if steer is not None:
            h = torch.cat([h[:rows], steer(h[rows:])])
        negative, positive = denoiser.decode(h, carry, conditions).split(rows)
        z = schedule.advance(z, guided(negative, positive, guidance), stages)
    return z


def noise_of_seeds(seeds: Sequence[int], latent: tuple[int, int]) -> torch.Tensor:
    """Noise (rows, 4, h, w) on the CPU, one row per seed; a row depends only on its seed."""
    return torch.stack([torch.randn(4, *latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
