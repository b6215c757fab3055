"""Counting what a UNet is asked for, by hooks on its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Evaluations:
    """Rows that passed the encoder, the decoder, and the decoder backwards."""

    encoder: int = 0
    decoder: int = 0
    backward: int = 0

    @property
    def total(self) -> float:
        """In evaluations of a whole UNet on one latent; encoder, decoder and backward pass count half of one each."""
        return (self.encoder + self.decoder + self.backward) / 2


@contextmanager
def counting(unet: Any) -> Iterator[Evaluations]:
    """Count all that the UNet (diffusers' names) does while the context is open."""
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
