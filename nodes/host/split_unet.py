"""ComfyUI's UNet (UNetModel.forward), split at its bottleneck: an encoder E(x, t, y) -> h and a decoder D(h, ...).

Patches of the UNet's blocks and layers are applied as ComfyUI does. Wrappers around the whole UNet, such as caches
between sampling steps and compilation, are not: they have no meaning for one half of it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import forward_timestep_embed, timestep_embedding
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

Options = dict[str, Any]


@dataclass(frozen=True)
class Bottleneck:
    """The decoder's inputs besides h, one row per latent.

    `embedding` (rows, E) is the embedding of timestep and labels, `skips` are the encoder's skip connections, and
    `transformers` counts the transformers that have run.
    """

    embedding: torch.Tensor
    skips: tuple[torch.Tensor, ...]
    shape: tuple[int, ...]
    transformers: int

    def rows(self, index: slice | torch.Tensor) -> Bottleneck:
        """The same for these rows."""
        embedding = self.embedding[index]
        skips = tuple(skip[index] for skip in self.skips)
        return Bottleneck(embedding, skips, (len(embedding), *self.shape[1:]), self.transformers)


def encode(
    unet: Any, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, y: torch.Tensor | None, options: Options
) -> tuple[torch.Tensor, Bottleneck]:
    """h, the output of the middle block (rows, C, H, W), and what the decoder needs besides it.

    x (rows, 4, height, width), context (rows, tokens, width) and SDXL's y (rows, E) have the UNet's dtype; t (rows,)
    are timesteps.
    """
    options = {**options, "original_shape": list(x.shape), "transformer_index": 0}
    patches = options.get("patches", {})
    embedding = unet.time_embed(timestep_embedding(t, unet.model_channels, repeat_only=False).to(x.dtype))
    for patch in patches.get("emb_patch", ()):
        embedding = patch(embedding, unet.model_channels, options)
    if unet.num_classes is not None:
        embedding = embedding + unet.label_emb(y)
    h, skips = x, []
    for number, block in enumerate(unet.input_blocks):
        options["block"] = ("input", number)
        h = forward_timestep_embed(block, h, embedding, context, options)
        for patch in patches.get("input_block_patch", ()):
            h = patch(h, options)
        skips.append(h)
        for patch in patches.get("input_block_patch_after_skip", ()):
            h = patch(h, options)
    options["block"] = ("middle", 0)
    if unet.middle_block is not None:
        h = forward_timestep_embed(unet.middle_block, h, embedding, context, options)
    for patch in patches.get("middle_block_after_patch", ()):
        seen = {"h": h, "x": x, "emb": embedding, "context": context, "y": y, "timesteps": t}
        h = patch({**seen, "transformer_options": options})["h"]
    return h, Bottleneck(embedding, tuple(skips), tuple(x.shape), options["transformer_index"])


def decode(
    unet: Any, h: torch.Tensor, at: Bottleneck, context: torch.Tensor, options: Options, *, checkpointing: bool = False
) -> torch.Tensor:
    """The UNet's output (rows, 4, height, width) in its dtype, differentiable with respect to h.

    `checkpointing` recomputes activations in the backward pass instead of storing them: a third slower, with a fraction
    of the memory.
    """
    options = {**options, "original_shape": list(at.shape), "transformer_index": at.transformers}
    patches = options.get("patches", {}).get("output_block_patch", ())
    skips = list(at.skips)
    if patches:  # FreeU_V2 writes to what it is given, and h and skips are used again
        h, skips = h.clone(), [skip.clone() for skip in skips]
    for number, block in enumerate(unet.output_blocks):
        options["block"] = ("output", number)
        skip: torch.Tensor | None = skips.pop()
        with _CopiedParts() if h.requires_grad else nullcontext():
            for patch in patches:
                h, skip = patch(h, skip, options)
        h = h if skip is None else torch.cat([h, skip], dim=1)
        inputs = (block, h, at.embedding, context, options, skips[-1].shape if skips else None)
        recompute = checkpointing and h.requires_grad
        h = checkpoint(_run, *inputs, use_reentrant=False) if recompute else _run(*inputs)
        options = {**options, "transformer_index": options["transformer_index"] + _transformers(block)}
    output: torch.Tensor = unet.out(h.to(at.embedding.dtype))
    return output


class _CopiedParts(TorchFunctionMode):
    """Indexing gives copies of parts, which autograd can keep when a patch writes to the whole, as FreeU_V2 does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.clone() if func is torch.Tensor.__getitem__ else result


def _run(
    block: Any, h: torch.Tensor, embedding: torch.Tensor, context: torch.Tensor, options: Options, size: Any
) -> Any:
    # A copy of the options, since layers write to them and the block may run again in the backward pass.
    return forward_timestep_embed(block, h, embedding, context, dict(options), size)


def _transformers(block: Any) -> int:
    return sum(isinstance(layer, SpatialTransformer) for layer in block)
