"""diffusers' UNet, split at its bottleneck."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.checkpoint import checkpoint

from ...respodiff_core.learning.denoiser import Attend, Condition
from .attention_layers import attention_layers

Prediction = Literal["epsilon", "v"]


@dataclass(frozen=True)
class Carry:
    """The decoder's inputs besides h, one row per latent.

    `skips` are the encoder's skip connections, `embedding` (rows, E) is the timestep embedding. `signal` and `noise`
    (rows, 1, 1, 1), the roots of alphas_cumprod and of 1 - alphas_cumprod, convert v to epsilon with z; all in fp32.
    """

    z: torch.Tensor
    signal: torch.Tensor
    noise: torch.Tensor
    embedding: torch.Tensor
    skips: tuple[torch.Tensor, ...]

    def rows(self, index: slice | torch.Tensor) -> Carry:
        """The carry of these rows."""
        skips = tuple(skip[index] for skip in self.skips)
        return Carry(self.z[index], self.signal[index], self.noise[index], self.embedding[index], skips)


class UNetDenoiser:
    """The `Denoiser` of a stock diffusers UNet, which is frozen and runs in its own dtype.

    `unet` is a UNet2DConditionModel on any device; `alphas_cumprod` (timesteps,) is the noise schedule. `checkpointing`
    recomputes the decoder's activations in the backward pass instead of storing them: a third slower, with a fraction
    of the memory.
    """

    def __init__(
        self,
        unet: Any,
        alphas_cumprod: torch.Tensor,
        *,
        prediction: Prediction = "epsilon",
        checkpointing: bool = False,
    ) -> None:
        self.unet = unet.requires_grad_(False).eval()
        self.prediction = prediction
        self.checkpointing = checkpointing
        self._alphas = alphas_cumprod.float().to(unet.device)
        self._up_factor = 2**unet.num_upsamplers

    @property
    def attention_sites(self) -> list[str]:
        """The cross-attention layers, in the order in which they run."""
        return list(attention_layers(self.unet))

    @contextmanager
    def attending(self, attend: Attend) -> Iterator[None]:
        """Within the context, `attend` is called with the output of every cross-attention layer and may replace it."""

        def hook(site: str, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
            return attend(site, output)

        handles = [
            layer.register_forward_hook(partial(hook, site)) for site, layer in attention_layers(self.unet).items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def _dtype(self) -> torch.dtype:
        # Not `unet.dtype`: it iterates over all modules, and this is read four times per step.
        dtype: torch.dtype = self.unet.conv_in.weight.dtype
        return dtype

    @torch.no_grad()
    def encode(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> tuple[torch.Tensor, Carry]:
        """h (rows, C, H, W) in the UNet's dtype and the carry, both without gradients.

        z (rows, 4, height, width) in fp32, of any size; t (rows,) long.
        """
        return self._encoded(z, t, condition)

    def _encoded(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> tuple[torch.Tensor, Carry]:
        unet = self.unet
        context = condition.context.to(self._dtype)
        h = z.to(self._dtype)
        embedding = unet.time_embedding(unet.get_time_embed(h, t))
        added = unet.get_aug_embed(
            embedding, context, {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        )
        if added is not None:
            embedding = embedding + added

        h = unet.conv_in(h)
        skips = (h,)
        for block in unet.down_blocks:
            h, states = block(h, embedding, **_context(block, context))
            skips += tuple(states)
        h = unet.mid_block(h, embedding, **_context(unet.mid_block, context))

        alpha = self._alphas[t].view(-1, 1, 1, 1)
        return h, Carry(z, alpha.sqrt(), (1 - alpha).sqrt(), embedding, skips)

    def decode(self, h: torch.Tensor, carry: Carry, condition: Condition) -> torch.Tensor:
        """The predicted noise (rows, 4, height, width) in fp32; differentiable with respect to h only."""
        unet = self.unet
        context = condition.context.to(self._dtype)
        h = h.to(self._dtype)
        # Upsampling needs the target size only if a size does not halve evenly.
        odd = any(size % self._up_factor for size in carry.z.shape[-2:])
        skips = carry.skips
        for block in unet.up_blocks:
            count = len(block.resnets)
            skips, states = skips[:-count], skips[-count:]
            size = tuple(skips[-1].shape[-2:]) if odd and skips else None
            h = self._up(block, h, states, carry.embedding, context, size)
        h = unet.conv_out(unet.conv_act(unet.conv_norm_out(h))).float()
        return h if self.prediction == "epsilon" else carry.signal * h + carry.noise * carry.z

    def take(self, carry: Carry, rows: slice | torch.Tensor) -> Carry:
        """The carry of the given rows: a slice, or indices (long) in their order."""
        return carry.rows(rows)

    def predict(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The predicted noise of the unchanged model (rows, 4, height, width), fp32."""
        return self.decode(*self.encode(z, t, condition), condition)

    def predict_differentiably(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The same, differentiable with respect to what `attending` replaces."""
        return self.decode(*self._encoded(z, t, condition), condition)

    def _up(
        self,
        block: Any,
        h: torch.Tensor,
        states: tuple[torch.Tensor, ...],
        embedding: torch.Tensor,
        context: torch.Tensor,
        size: tuple[int, ...] | None,
    ) -> torch.Tensor:
        def run(h: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = block(
                hidden_states=h,
                res_hidden_states_tuple=states,
                temb=embedding,
                upsample_size=size,
                **_context(block, context),
            )
            return result

        if self.checkpointing and torch.is_grad_enabled() and h.requires_grad:
            recomputed: torch.Tensor = checkpoint(run, h, use_reentrant=False)
            return recomputed
        return run(h)


def _context(block: Any, context: torch.Tensor) -> dict[str, torch.Tensor]:
    """The text argument of blocks with cross-attention; SDXL's outermost and Segmind Vega's middle block have none."""
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
