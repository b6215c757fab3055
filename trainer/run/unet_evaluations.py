"""Counting UNet evaluations with hooks on its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Evaluations:
    """Number of rows in encoder passes, decoder passes and backward passes of the decoder."""

    encoder: int = 0
    decoder: int = 0
    backward: int = 0

    @property
    def total(self) -> float:
        """Evaluations of the whole UNet on one latent; an encoder, decoder or backward pass counts as half."""
        return (self.encoder + self.decoder + self.backward) / 2


@contextmanager
def counting(unet: Any) -> Iterator[Evaluations]:
    """Count the evaluations of a diffusers UNet within the context."""
    counted = Evaluations()

    def encoded(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        counted.encoder += len(output)

    def decoded(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        counted.decoder += len(output)
        if output.requires_grad:
            output.register_hook(went_back)

    def went_back(gradient: torch.Tensor) -> None:
        counted.backward += len(gradient)

    hooks = [unet.conv_in.register_forward_hook(encoded), unet.conv_out.register_forward_hook(decoded)]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()
