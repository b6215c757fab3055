"""Devices, precisions, and loading a base model by the settings of a recipe."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment

from ...respodiff_core.errors import RespoDiffError
from ..recipes.training_recipe import ModelRecipe, Precision
from .model import BaseModel, load_base


def device_named(name: str) -> torch.device:
    """The device named auto (a GPU if there is one) or by PyTorch's name (cpu, cuda:1, mps).

    Raises RespoDiffError if this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type != "cpu" and (device.index or 0) >= _count(device.type):
        available = [f"{kind}:{number}" for kind in ("cuda", "xpu", "mps") for number in range(_count(kind))]
        raise RespoDiffError(
            f"This machine has no device {name}: choose one of {', '.join(['auto', 'cpu', *available])}."
        )
    return device


def accelerator_on(device: str, **options: Any) -> Accelerator:
    """An Accelerator on a device, named as for `device_named`; `options` are passed to Accelerator.

    Raises RespoDiffError if this machine does not have the device.
    """
    device_named(device)
    if device in ("auto", "cpu"):
        return Accelerator(cpu=device == "cpu", **options)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RespoDiffError(
            f"The device {device} is one device, but several processes were launched: leave out --device (or device in "
            "the recipe), and select the GPUs with CUDA_VISIBLE_DEVICES."
        )
    with patch_environment(ACCELERATE_TORCH_DEVICE=device):  # how accelerate selects a device
        return Accelerator(**options)


def _count(kind: str) -> int:
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return torch.cuda.device_count() if kind == "cuda" else torch.xpu.device_count()


def precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """The UNet's dtype: the one of the recipe, or for auto the fastest that is safe on the device."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type != "cuda":
        return torch.float32
    # Older GPUs only emulate bfloat16, which is slow.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_as(spec: str, settings: ModelRecipe, device: torch.device, *, checkpointing: bool = False) -> BaseModel:
    """Load the base model `spec` with the precision and size in `settings`. Raises BaseModelError."""
    return load_base(
        spec,
        device=device,
        dtype=precision(settings.precision, device),
        prediction=None if settings.prediction == "auto" else settings.prediction,
        latent_size=settings.latent_size,
        checkpointing=checkpointing,
        text_encoders=settings.text_encoders,
        vae=settings.vae,
    )
