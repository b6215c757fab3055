"""The noise schedule of a base model, from the config of its scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler

from .base_model_error import BaseModelError

_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
_TIMESTEPS = 1000
# Avoids division by zero with zero terminal SNR; samplers clamp to the same value.
_MIN_ALPHA = 4.8973e-8


def alphas_cumprod(config: Mapping[str, Any], name: str) -> torch.Tensor:
    """The products of alphas (1000,), fp32 on the CPU; `name` is the model's. Raises BaseModelError."""
    known = {key: config[key] for key in _KEYS if config.get(key) is not None}
    try:
        scheduler: Any = DDIMScheduler(**known)
        alphas: torch.Tensor = scheduler.alphas_cumprod.float()
    except Exception as error:  # whatever the library says to a config that it cannot use
        raise BaseModelError(f"The noise schedule of {name} cannot be used ({_brief(error)}).") from error
    if alphas.shape != (_TIMESTEPS,):
        raise BaseModelError(
            f"The noise schedule of {name} has {alphas.numel()} timesteps; Stable Diffusion's UNets know {_TIMESTEPS}."
        )
    if not (bool((alphas.diff() <= 0).all()) and 0.5 < alphas[0] < 1 and alphas[-1] >= 0):
        raise BaseModelError(f"The noise schedule of {name} cannot be used: it is not one of rising noise.")
    return alphas.clamp(min=_MIN_ALPHA)


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
