"""UNets of each family's build, small enough for a test to run in milliseconds, and conditions they read."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from respodiff.respodiff_core.learning.denoiser import Condition
from respodiff.trainer.base.unet_denoiser import UNetDenoiser

CONTEXT, POOLED, TIME = 16, 24, 8
LATENT = (8, 8)
H_SHAPE = (64, 4, 4)

_COMMON = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": CONTEXT,
    "attention_head_dim": 4,
}
_FAMILIES = {
    "sd15": {},
    "sd2": {"use_linear_projection": True},
    "sdxl": {
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME,
        "projection_class_embeddings_input_dim": POOLED + 6 * TIME,
    },
}
ALPHAS = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod


def tiny_unet(family: str = "sd15", seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(**_COMMON, **_FAMILIES[family]).eval()


def tiny_denoiser(family: str = "sd15", seed: int = 0) -> UNetDenoiser:
    return UNetDenoiser(tiny_unet(family, seed), ALPHAS, prediction="v" if family == "sd2" else "epsilon")


def random_condition(rows: int, family: str = "sd15", seed: int = 0) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(rows, 5, CONTEXT, generator=generator)
    if family != "sdxl":
        return Condition(context)
    return Condition(context, torch.randn(rows, POOLED, generator=generator), torch.full((rows, 6), 64.0))
