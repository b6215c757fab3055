"""What adapters must fit: the family, prediction type and steered sites of a loaded UNet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import comfy.supported_models
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS, IMG_TO_IMG, V_PREDICTION

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.compatibility import check_fits
from ...respodiff_core.errors import ModelMismatchError
from ...respodiff_core.names import MIDDLE
from ...respodiff_core.plain_text import plain
from ...respodiff_core.sites import attention_site

logger = logging.getLogger("respodiff")


def family_of(model: ModelPatcher) -> str:
    """The name of the model's family. Raises ModelMismatchError for models that are not image UNets (Flux, SD3 ...)."""
    config = model.model.model_config
    unet = config.unet_config
    if "channel_mult" not in unet or "model_channels" not in unet or unet.get("use_temporal_resblock"):
        raise ModelMismatchError(
            f"This model ({type(config).__name__}) has no h-space: it is not an image UNet. RespoDiff steers "
            "Stable Diffusion 1.x, 2.x and SDXL models; connect one of those."
        )
    families = {
        "sd15": comfy.supported_models.SD15,
        "sd2": comfy.supported_models.SD20,
        "sdxl": comfy.supported_models.SDXL,
    }
    return next((name for name, known in families.items() if isinstance(config, known)), type(config).__name__)


def prediction_of(model: ModelPatcher) -> str | None:
    """The prediction type that the model is sampled with: "epsilon", "v", or None for others."""
    # Not the model's own type, which ModelSamplingDiscrete overrides.
    convert = type(model.get_model_object("model_sampling")).calculate_denoised
    return {EPS.calculate_denoised: "epsilon", V_PREDICTION.calculate_denoised: "v"}.get(convert)


def check_noise(model: ModelPatcher) -> None:
    """Raise ModelMismatchError for a model that is sampled by flow matching, which has no schedule of noise levels."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, EPS) or isinstance(sampling, IMG_TO_IMG):
        raise ModelMismatchError(
            "This model is sampled by flow matching, and RespoDiff's methods need diffusion. Remove "
            "the ModelSampling node before this one, or connect another Stable Diffusion 1.x, 2.x or SDXL model."
        )


def sites_of(model: ModelPatcher) -> dict[str, int]:
    """The channels of each site (respodiff_core.sites), in the order in which they run. Raises as `family_of`."""
    family_of(model)
    config = model.model.model_config.unet_config
    channels = {name: block.attn2.to_out[0].out_features for name, block in attention_blocks(model)}
    return channels | {MIDDLE: config["model_channels"] * config["channel_mult"][-1]}


def attention_blocks(model: ModelPatcher) -> Iterator[tuple[str, Any]]:
    """The transformer blocks with cross-attention by site, in the order in which they run."""
    unet = model.model.diffusion_model
    kinds = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    for kind, blocks in kinds.items():
        for number, block in enumerate(blocks):
            for transformer in block or ():
                if isinstance(transformer, SpatialTransformer):
                    for depth, one in enumerate(transformer.transformer_blocks):
                        if one.attn2 is not None:
                            yield attention_site(kind, number, depth), one


def check(adapter: Adapter, model: ModelPatcher) -> None:
    """Raise ModelMismatchError unless the adapter fits the model: its family, and the channels of its sites."""
    warning = check_fits(
        adapter,
        family=family_of(model),
        sites=sites_of(model),
        prediction=prediction_of(model),
        model="this model",
    )
    if warning:
        logger.warning("RespoDiff: %s", plain(warning))
