"""The interface of a base model in training: a UNet split at its bottleneck, and the conditions it takes.

It allows the same objective to train on diffusers' UNet, and on a model loaded by another host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Condition:
    """The conditions of the UNet, one row per latent.

    `context` (rows, tokens, width) are the hidden states of the text encoder. SDXL also takes `pooled` (rows, P), the
    pooled text embedding, and `time_ids` (rows, 6): original height and width, crop top and left, target height and
    width.
    """

    context: torch.Tensor
    pooled: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.context.shape[0]

    @property
    def tokens(self) -> torch.Tensor:
        return self.context

    def rows(self, index: torch.Tensor) -> Condition:
        """The rows with these indices (long), in their order; indices may repeat."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Condition:
        """The same condition on the given device."""
        return self._each(lambda tensor: tensor.to(device))

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """The rows of all parts, in their order; all parts must have the same fields."""

        def joined(name: str) -> torch.Tensor | None:
            tensors = [getattr(part, name) for part in parts]
            return None if tensors[0] is None else torch.cat(tensors)

        context = torch.cat([part.context for part in parts])
        return Condition(context, joined("pooled"), joined("time_ids"))

    def _each(self, change: Any) -> Condition:
        def changed(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else change(tensor)

        return Condition(change(self.context), changed(self.pooled), changed(self.time_ids))


class Conditions(Protocol):
    """Conditions of any kind, one row per latent; `Condition` is one."""

    def __len__(self) -> int: ...
    @property
    def tokens(self) -> torch.Tensor:
        """The text encodings (rows, tokens, width)."""
        ...

    def rows(self, index: torch.Tensor) -> Any:
        """The rows with these indices (long), in their order; indices may repeat."""
        ...

    @staticmethod
    def cat(parts: Sequence[Any]) -> Any:
        """The rows of all parts, in their order; all parts must have the same fields."""
        ...


class Denoiser(Protocol):
    """A frozen UNet split at its bottleneck into an encoder E(z, t, y) -> h and a decoder D(h, ...) -> noise
    (arXiv 2509.15257, section 3).

    Latents z (rows, 4, height, width) and predictions are fp32; h (rows, C, H, W) has the dtype of the UNet.
    """

    def encode(self, z: torch.Tensor, t: torch.Tensor, condition: Any) -> tuple[torch.Tensor, Any]:
        """h, and the other inputs of the decoder (`carry`); t (rows,) are timesteps, long."""
        ...

    def decode(self, h: torch.Tensor, carry: Any, condition: Any) -> torch.Tensor:
        """The predicted noise like z, whatever the prediction type of the UNet; differentiable with respect to h."""
        ...

    def take(self, carry: Any, rows: slice | torch.Tensor) -> Any:
        """The carry of the selected rows: a slice, or indices (long) in their order."""
        ...


Attend = Callable[[str, torch.Tensor], torch.Tensor | None]
"""Called with a site and what that cross-attention layer adds, (rows, tokens, C); its result, if any, is added instead.
"""


class AttentionDenoiser(Protocol):
    """A frozen UNet whose cross-attention layers can be observed and changed."""

    def predict(self, z: torch.Tensor, t: torch.Tensor, condition: Any) -> torch.Tensor:
        """The predicted noise (rows, 4, height, width) of latents z like it, in fp32; t (rows,) are timesteps, long."""
        ...

    @property
    def attention_sites(self) -> Sequence[str]:
        """The cross-attention layers, in the order in which they run."""
        ...

    def attending(self, attend: Attend) -> AbstractContextManager[None]:
        """Within the context, `attend` is called at every cross-attention layer of every evaluation."""
        ...


def attending(denoiser: Denoiser, attend: Attend) -> AbstractContextManager[None]:
    """The denoiser's `attending`. Raises TypeError if its cross-attention layers cannot be reached."""
    if not hasattr(denoiser, "attending"):
        raise TypeError(f"{type(denoiser).__name__} is not an AttentionDenoiser: contrast concepts need its layers")
    context: AbstractContextManager[None] = denoiser.attending(attend)
    return context
