"""The cross-attention layers of a diffusers UNet, by the names that they have in ComfyUI's UNet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from ...respodiff_core.names import MIDDLE


def attention_layers(unet: Any) -> dict[str, Any]:
    """The modules whose output is what cross-attention adds, (rows, tokens, C), in the order in which they run.

    Names are `<kind>.<block>.<transformer block>`, where blocks are counted as in the original (LDM) layout: `input.0`
    is the first convolution, and downsamplers are blocks of their own.
    """
    layers: dict[str, Any] = {}
    layers.update(_of_blocks("input", 1, unet.down_blocks))
    layers.update(_of_block("middle", 0, (getattr(unet.mid_block, "attentions", None) or [None])[0]))
    layers.update(_of_blocks("output", 0, unet.up_blocks))
    return layers


def sites_of(config: Mapping[str, Any]) -> dict[str, int]:
    """The channels of each site of the UNet with this config: h, and the cross-attention layers."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
    sites: dict[str, int] = {MIDDLE: unet.config.block_out_channels[-1]}
    return sites | {site: layer.to_out[0].out_features for site, layer in attention_layers(unet).items()}


def _of_blocks(kind: str, number: int, blocks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for block in blocks:
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        for attention in attentions:
            yield from _of_block(kind, number, attention)
            number += 1
        # ComfyUI counts an upsampler with the block before it.
        number += 1 if getattr(block, "downsamplers", None) else 0


def _of_block(kind: str, number: int, attention: Any) -> Iterator[tuple[str, Any]]:
    if attention is not None:
        for depth, transformer in enumerate(attention.transformer_blocks):
            yield f"{kind}.{number}.{depth}", transformer.attn2
