"""Reproducible random weights: a tensor's values depend on the seed, its name and its shape only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from respodiff.respodiff_core.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor

DType = Literal["float16", "float32"]

# How much of a small UNet's output is its own, beside the noise that it recognises; see recognise_noise.
OWN_SHARE = 0.1


def random_tensor(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """Fan-in scaled normal for matrices and kernels, ones for norms, zeros for biases; float32.

    Also where training would start from zero (last convolutions, a ControlNet's outputs): a model that
    ignores its input tests nothing.
    """
    import torch

    if len(shape) < 2:
        return torch.ones(*shape) if name.endswith("weight") else torch.zeros(*shape)
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big", signed=True))
    return torch.randn(*shape, generator=generator).mul_(prod(shape[1:]) ** -0.5)


def fill(shapes: Mapping[str, Sequence[int]], seed: int, dtype: DType) -> dict[str, Tensor]:
    """Values for all tensors of a checkpoint."""
    import torch

    target = getattr(torch, dtype)
    return {name: random_tensor(name, shape, seed).to(target) for name, shape in shapes.items()}


def recognise_noise(state: dict[str, Tensor], prefix: str) -> None:
    """Let a random UNet predict the noise that it is shown, plus a tenth of its own, in place.

    A random prediction removes no noise, and sampling would end at the first sigma (about 14) instead of a
    latent of order 1. So a few channels carry the input from the first convolution over the last skip
    connection to the output: +x and -x side by side, because silu(x) - silu(-x) = x. What is left in the end
    is the network's own part, which depends on the prompt, the seed and the middle block.
    """
    blocks = (re.match(rf"{re.escape(prefix)}output_blocks\.(\d+)\.", name) for name in state)
    last = f"{prefix}output_blocks.{max(int(m[1]) for m in blocks if m)}."
    first = state[f"{prefix}input_blocks.0.0.weight"]
    out = state[f"{prefix}out.2.weight"]
    skip = state[f"{last}0.skip_connection.weight"]
    width, latent = first.shape[:2]
    group = _carrying(width)
    before = skip.shape[1] - width  # channels that come from below; the skip connection's follow

    first[:group] = 0
    for channel in range(latent):
        first[channel, channel, 1, 1] = 1
        first[latent + channel, channel, 1, 1] = -1
    skip[:group] = 0
    for channel in range(group):
        skip[channel, before + channel] = 1
    for name in ("0.out_layers.3.weight", "1.proj_out.weight"):
        if last + name in state:  # no attention in SDXL's outermost level
            state[last + name][:group] = 0
    out *= OWN_SHARE
    out[:, :group] = 0
    for channel in range(latent):
        # The norm divides by the deviation over the whole group, whose spare channels are zero.
        gain = (2 * latent / group) ** 0.5
        out[channel, channel, 1, 1] = gain
        out[channel, latent + channel, 1, 1] = -gain


def spare_noise(state: dict[str, Tensor], prefix: str) -> None:
    """Keep a random ControlNet off the channels in which recognise_noise carries the noise, in place."""
    first = state[f"{prefix}zero_convs.0.0.weight"]
    first[: _carrying(first.shape[0])] = 0


def _carrying(width: int) -> int:
    """So many channels, the first, carry the noise: one group of the last norm, which nothing else shares."""
    return width // 32


def save(state: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file; nobody ever sees half of it."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(state, partial)
