"""DDIM sampling with classifier-free guidance, steered on the conditional half as the nodes do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .denoiser import Condition, Denoiser
from .diffusion import Schedule, guided

Steer = Callable[[torch.Tensor], torch.Tensor]
"""h of the conditional rows -> h steered."""


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
    """Latents (rows, 4, h, w) from noise of that shape; `condition` has a row for each, `empty` one for all.

    One UNet call on 2 * rows a step.
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
    """One latent's noise for each seed (rows, 4, h, w), whatever batch it is in; made on the CPU."""
    return torch.stack([torch.randn(4, *latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
