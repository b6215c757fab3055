"""Reproducible random weights: the values of a tensor depend only on the seed, its name and its shape."""

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

# Share of the random part in the output of a small UNet, see add_noise_prediction.
RANDOM_SHARE = 0.1


def random_tensor(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """Fan-in scaled normal for matrices and kernels, ones for norms, zeros for biases; float32.

    This includes layers that training would initialize to zero (last convolutions, outputs of a ControlNet): a
    model that ignores its input would be useless in tests.
    """
    import torch

    if len(shape) < 2:
        return torch.ones(*shape) if name.endswith("weight") else torch.zeros(*shape)
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big", signed=True))
    return torch.randn(*shape, generator=generator).mul_(prod(shape[1:]) ** -0.5)


def fill(shapes: Mapping[str, Sequence[int]], seed: int, dtype: DType) -> dict[str, Tensor]:
    """Random values for all tensors of a checkpoint."""
    import torch

    target = getattr(torch, dtype)
    return {name: random_tensor(name, shape, seed).to(target) for name, shape in shapes.items()}


def add_noise_prediction(state: dict[str, Tensor], prefix: str) -> None:
    """Change a random UNet, in place, so that it predicts its input as noise, plus RANDOM_SHARE of its own output.

    A random prediction removes no noise: sampling would end at the magnitude of the first sigma (about 14)
    instead of 1. Therefore a few channels carry the input from the first convolution over the last skip
    connection to the output, as +x and -x, because silu(x) - silu(-x) = x. The latent that remains after sampling
    is the random part, which depends on the prompt, the seed and the middle block.
    """
    blocks = (re.match(rf"{re.escape(prefix)}output_blocks\.(\d+)\.", name) for name in state)
    last = f"{prefix}output_blocks.{max(int(m[1]) for m in blocks if m)}."
    first = state[f"{prefix}input_blocks.0.0.weight"]
    out = state[f"{prefix}out.2.weight"]
    skip = state[f"{last}0.skip_connection.weight"]
    width, latent = first.shape[:2]
    group = _carrying(width)
    before = skip.shape[1] - width  # channels of the level below; those of the skip connection follow

    first[:group] = 0
    for channel in range(latent):
        first[channel, channel, 1, 1] = 1
        first[latent + channel, channel, 1, 1] = -1
    skip[:group] = 0
    for channel in range(group):
        skip[channel, before + channel] = 1
    for name in ("0.out_layers.3.weight", "1.proj_out.weight"):
        if last + name in state:  # SDXL's outermost level has no attention
            state[last + name][:group] = 0
    out *= RANDOM_SHARE
    out[:, :group] = 0
    for channel in range(latent):
        # The norm divides by the standard deviation over the whole group, whose unused channels are zero.
        gain = (2 * latent / group) ** 0.5
        out[channel, channel, 1, 1] = gain
        out[channel, latent + channel, 1, 1] = -gain


def clear_noise_channels(state: dict[str, Tensor], prefix: str) -> None:
    """Zero a random ControlNet's output, in place, in the channels that carry the noise (add_noise_prediction)."""
    first = state[f"{prefix}zero_convs.0.0.weight"]
    first[: _carrying(first.shape[0])] = 0


def _carrying(width: int) -> int:
    """The number of first channels that carry the noise: exactly one group of the last norm."""
    return width // 32


def save(state: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file atomically."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(state, partial)
