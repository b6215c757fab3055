"""DDIM sampling with classifier-free guidance; only the conditional half is steered, as in the nodes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Protocol

import torch

from ..names import MIDDLE
from ..sites import size_at
from .denoiser import Conditions, Denoiser, attending
from .diffusion import Schedule, guided


class RowSteering(Protocol):
    """Changes the conditional rows at its sites (see steering.fair_groups.RowSteering)."""

    @property
    def sites(self) -> Collection[str]: ...
    def middle(self, h: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor: ...
    def layer(self, site: str, x: torch.Tensor, size: tuple[int, int], sigmas: torch.Tensor) -> torch.Tensor: ...


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    schedule: Schedule,
    noise: torch.Tensor,
    condition: Conditions,
    empty: Conditions,
    *,
    guidance: float | torch.Tensor,
    steer: RowSteering | None = None,
) -> torch.Tensor:
    """Sample latents (rows, 4, h, w) from noise of the same shape, with one UNet call on 2 * rows per step.

    `condition` has one row per latent, `empty` (the unconditional prompt) a single row;
    `guidance` is one scale, or one for each latent (rows,).
    """
    rows = len(noise)
    schedule = schedule.to(noise.device)
    conditions = condition.cat([empty.rows(torch.zeros(rows, dtype=torch.long, device=noise.device)), condition])
    scale = guidance.view(-1, 1, 1, 1) if isinstance(guidance, torch.Tensor) else guidance
    z, sigmas = noise, schedule.sigmas.expand(rows, -1).T
    stage, height, width = 0, *noise.shape[-2:]

    def attend(site: str, x: torch.Tensor) -> torch.Tensor | None:
        if steer is None or site not in steer.sites:
            return None
        size = size_at(x.shape[1], height, width)
        return torch.cat([x[:rows], steer.layer(site, x[rows:], size, sigmas[stage])])

    with attending(denoiser, attend) if steer is not None and set(steer.sites) - {MIDDLE} else nullcontext():
        for stage in range(len(schedule)):
            stages = torch.full((rows,), stage, device=z.device)
            h, carry = denoiser.encode(z.repeat(2, 1, 1, 1), schedule.timesteps[stages].repeat(2), conditions)
            if steer is not None and MIDDLE in steer.sites:
                h = torch.cat([h[:rows], steer.middle(h[rows:], sigmas[stage])])
            negative, positive = denoiser.decode(h, carry, conditions).split(rows)
            z = schedule.advance(z, guided(negative, positive, scale), stages)
    return z


def noise_of_seeds(seeds: Sequence[int], latent: tuple[int, int]) -> torch.Tensor:
    """Noise (rows, 4, h, w) on the CPU, one row per seed; a row depends only on its seed."""
    return torch.stack([torch.randn(4, *latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
