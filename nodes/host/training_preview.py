"""Preview images of a concept in training: the same seed at several strengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from latent_preview import Latent2RGBPreviewer

from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.learning.diffusion import Schedule
from ...respodiff_core.learning.sampling import noise_of_seeds, sample
from ...respodiff_core.steering.fair_groups import FairGroup, steer_rows
from ...respodiff_core.steering.steering import Term
from .denoiser import HostCondition, HostDenoiser

STRENGTHS = (0.0, 0.5, 1.0)
_STEPS, _GUIDANCE = 20, 7.5
_SMALLEST = 192  # pixels


@dataclass(frozen=True)
class TrainingPreview:
    """Samples images of a prompt from the model in training; `conditions` are those of "" and of the prompt."""

    denoiser: HostDenoiser
    conditions: HostCondition
    vae: Any | None

    @torch.inference_mode()
    def images(self, concept: Concept) -> torch.Tensor:
        """An image per strength of STRENGTHS, as a ComfyUI IMAGE. Without a VAE they are rough and small, as the
        previews of a sampler are.
        """
        denoiser, rows = self.denoiser, len(STRENGTHS)
        which = torch.zeros(rows, dtype=torch.long, device=denoiser.device)
        z = sample(
            denoiser,
            Schedule.of(denoiser.alphas_cumprod, _STEPS),
            noise_of_seeds([0] * rows, denoiser.latent).to(denoiser.device),
            self.conditions.rows(which + 1),
            self.conditions.rows(which[:1]),
            guidance=_GUIDANCE,
            steer=steer_rows([FairGroup(concept.name, (Term(concept, strength),)) for strength in STRENGTHS]),
        )
        if self.vae is None:
            return _enlarged(torch.stack([self._roughly(one) for one in z]))
        # One at a time: SDXL's autoencoder needs gigabytes per image.
        decoded = [self.vae.decode(one) for one in denoiser.latent_format.process_out(z).split(1)]
        return _enlarged(torch.cat(decoded).float().cpu().clamp(0, 1))

    def _roughly(self, z: torch.Tensor) -> torch.Tensor:
        factors = self.denoiser.latent_format.latent_rgb_factors
        if factors is None:  # of a family without known factors
            factors = np.eye(4, 3).tolist()
        shown = Latent2RGBPreviewer(factors).decode_latent_to_preview(z[None].float())
        return torch.from_numpy(np.asarray(shown, dtype=np.float32) / 255)


def _enlarged(images: torch.Tensor) -> torch.Tensor:
    """Small images (N, height, width, 3) by a whole factor, so that their labels fit."""
    factor = -(-_SMALLEST // images.shape[2])
    return images.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
