"""Where a model runs, in which precision, and how it is opened as a recipe asks."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment

from ...respodiff_core.errors import RespoDiffError
from ..recipes.training_recipe import ModelRecipe, Precision
from .model import BaseModel, describe, load_base


def device_named(name: str) -> torch.device:
    """The device of a name: auto (a GPU where there is one), or one by PyTorch's name (cpu, cuda:1, mps).

    Raises RespoDiffError where this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type != "cpu" and (device.index or 0) >= _count(device.type):
        there = [f"{kind}:{number}" for kind in ("cuda", "xpu", "mps") for number in range(_count(kind))]
        raise RespoDiffError(f"This machine has no device {name}: choose one of {', '.join(['auto', 'cpu', *there])}.")
    return device


def accelerator_on(device: str, **options: Any) -> Accelerator:
    """The Accelerator of a device, by its name as for `device_named`; `options` are Accelerator's.

    Raises RespoDiffError where this machine does not have the device.
    """
    device_named(device)
    if device in ("auto", "cpu"):
        return Accelerator(cpu=device == "cpu", **options)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RespoDiffError(
            f"--device {device} names one device, but several processes were launched: leave it out, and let "
            "CUDA_VISIBLE_DEVICES name the GPUs."
        )
    with patch_environment(ACCELERATE_TORCH_DEVICE=device):  # accelerate's own way to choose one
        return Accelerator(**options)


def _count(kind: str) -> int:
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return torch.cuda.device_count() if kind == "cuda" else torch.xpu.device_count()


def precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """The UNet's dtype: as the recipe says, or the fastest that is safe on the device."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type != "cuda":
        return torch.float32
    # Older GPUs emulate bfloat16, slowly.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_as(spec: str, how: ModelRecipe, device: torch.device, *, checkpointing: bool = False) -> BaseModel:
    """The base model that `spec` names, in the precision and at the size that were chosen. Raises BaseModelError."""
    return load_base(
        spec,
        device=device,
        dtype=precision(how.precision, device),
        prediction=None if how.prediction == "auto" else how.prediction,
        latent_size=None if how.width is None else how.latent_size(describe(spec).family),
        checkpointing=checkpointing,
    )
