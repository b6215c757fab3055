"""Configs of the networks in a checkpoint file, derived from the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .base_model_error import BaseModelError

Shapes = Mapping[str, Sequence[int]]

_SD1_CONTEXT = 768
_CLIP_TOKENS = 49_408
_TRANSFORMER = re.compile(r"(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.1\.transformer_blocks\.(\d+)\.")


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """The diffusers config of a UNet with the original (LDM) tensor names, without prefix.

    Raises BaseModelError if it is not built like Stable Diffusion's.
    """
    depths = _transformers(shapes)
    widths, down = _down(shapes, depths)
    layers = len(down[0])
    blocks_up = count(shapes, "output_blocks")
    if any(len(level) != layers for level in down) or blocks_up != len(down) * (layers + 1):
        raise BaseModelError("the UNet's levels differ in their number of blocks")
    up = [
        tuple(depths.get(f"output_blocks.{block}", 0) for block in range(start, start + layers + 1))
        for start in range(0, blocks_up, layers + 1)
    ]
    middle = depths.get("middle_block", 0)
    context = _context(shapes)
    config: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": tuple("CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in down),
        "up_block_types": tuple("CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in up),
        "mid_block_type": _middle_type(shapes, middle),
        # A level without transformers needs a value too; the lowest level's also applies to the middle block.
        "transformer_layers_per_block": tuple(level if any(level) else middle or 1 for level in down),
        "reverse_transformer_layers_per_block": tuple(level if any(level) else 1 for level in up),
        "cross_attention_dim": context,
        # In spite of its name, the number of heads: 8 in SD1.x, one per 64 channels in later versions.
        "attention_head_dim": 8 if context == _SD1_CONTEXT else tuple(max(width // 64, 1) for width in widths),
        "use_linear_projection": any(
            name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in shapes.items()
        ),
    }
    if label := shapes.get("label_emb.0.0.weight"):
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": label[1],
        }
    return config


def vae_config(shapes: Shapes, scaling: float) -> dict[str, Any]:
    """The diffusers config of a VAE with the original (LDM) tensor names, without prefix."""
    levels = count(shapes, "decoder.up")
    widths = [shapes[f"decoder.up.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    return _vae_config(widths, count(shapes, "decoder.up.0.block") - 1, shapes, scaling)


def vae_config_of_diffusers(shapes: Shapes, scaling: float) -> dict[str, Any]:
    """The diffusers config of a VAE with diffusers' tensor names, without prefix."""
    levels = count(shapes, "decoder.up_blocks")
    widths = [shapes[f"decoder.up_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    return _vae_config(widths[::-1], count(shapes, "decoder.up_blocks.0.resnets") - 1, shapes, scaling)


def _vae_config(widths: Sequence[int], layers: int, shapes: Shapes, scaling: float) -> dict[str, Any]:
    return {
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "scaling_factor": scaling,
    }


def text_config(shapes: Shapes, activation: str) -> dict[str, Any]:
    """The transformers config of a CLIP text encoder with transformers' tensor names.

    Embeddings beyond CLIP's vocabulary are added words (textual inversion). Raises KeyError and ValueError if a tensor
    is missing or has another number of dimensions.
    """
    embeddings, width = shapes["embeddings.token_embedding.weight"]
    last = min(embeddings, _CLIP_TOKENS) - 1
    return {
        "vocab_size": embeddings,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": count(shapes, "encoder.layers"),
        "num_attention_heads": width // 64,
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "hidden_act": activation,
        "projection_dim": shapes.get("text_projection.weight", (width,))[0],
        "bos_token_id": last - 1,
        "eos_token_id": last,
    }


def count(shapes: Iterable[str], prefix: str) -> int:
    """The number of numbered submodules of `prefix`."""
    numbers = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in shapes)
    return 1 + max((int(number[1]) for number in numbers if number), default=-1)


def _transformers(shapes: Shapes) -> dict[str, int]:
    """The transformer depth of each block that has one."""
    depths: dict[str, int] = {}
    for name in shapes:
        if found := _TRANSFORMER.match(name):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    return depths


def _down(shapes: Shapes, depths: Mapping[str, int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Per encoder level: its width, and the transformer depths of its blocks."""
    widths: list[int] = []
    levels: list[tuple[int, ...]] = []
    level: tuple[int, ...] = ()
    for number in range(1, count(shapes, "input_blocks")):
        block = f"input_blocks.{number}"
        if f"{block}.0.op.weight" in shapes:  # downsampling ends a level
            levels.append(level)
            level = ()
            continue
        if not level:
            widths.append(shapes[f"{block}.0.out_layers.3.weight"][0])
        level += (depths.get(block, 0),)
    return widths, [*levels, level]


def _middle_type(shapes: Shapes, depth: int) -> str | None:
    if not count(shapes, "middle_block"):
        return None
    return "UNetMidBlock2DCrossAttn" if depth else "UNetMidBlock2D"


def _context(shapes: Shapes) -> int:
    for name, shape in shapes.items():
        if name.endswith(".attn2.to_k.weight"):
            return shape[1]
    raise BaseModelError("the UNet has no cross-attention")
