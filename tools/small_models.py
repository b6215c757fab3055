"""Small checkpoints with random weights that ComfyUI recognizes as real models.

ComfyUI recognizes a family by the shapes of its tensors: width (320), context width and depth of the transformers.
The number and width of the levels do not matter, so 44 million parameters pass as Stable Diffusion 1.5.
Sampled latents are finite, of the usual magnitude, and depend on prompt, seed and middle block.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import random_weights
from random_weights import DType
from respodiff.respodiff_core.unfinished import temporary_folder
from respodiff.trainer.comfyui.children import run_child
from respodiff.trainer.comfyui.source import ComfySource, ComfyUnavailable

log = logging.getLogger(__name__)

Family = Literal["sd15", "sd15_wide", "sd15_full", "sd2", "sdxl", "vega", "no_h_space"]

UNET_PREFIX = "model.diffusion_model."


class ModelSpec(TypedDict):
    """The model whose tensors list_tensors lists."""

    kind: Literal["unet", "controlnet", "mmdit"]
    network: dict[str, Any]
    model_class: str
    clips: dict[str, str]
    vae: bool


@dataclass(frozen=True)
class _Kind:
    """A family: arguments of its network, its class in comfy.supported_models, configs of its text encoders."""

    network: dict[str, Any]
    model_class: str
    clips: dict[str, str] = field(default_factory=dict)


def _unet(mult: list[int], blocks: int, depth: list[int], middle: int, context: int, **more: Any) -> dict[str, Any]:
    """Arguments of a UNet with `blocks` residual blocks per level; `depth` counts transformers per block."""
    # The decoder has one more block on each level, with the same depth.
    up = [d for level in range(len(mult)) for d in [depth[level * blocks]] * (blocks + 1)]
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "channel_mult": mult,
        "num_res_blocks": [blocks] * len(mult),
        "transformer_depth": depth,
        "transformer_depth_output": up,
        "transformer_depth_middle": middle,
        "context_dim": context,
        "use_spatial_transformer": True,
        "legacy": False,
        **more,
    }


_SD15 = {"num_heads": 8}
_LATER = {"num_head_channels": 64, "use_linear_in_transformer": True}
_SDXL = {**_LATER, "num_classes": "sequential", "adm_in_channels": 2816}
_CLIP_L = {"clip_l": "sd1_clip_config.json"}
_CLIP_H = {"clip_h": "text_encoders/sd2_clip_config.json"}
_CLIP_LG = {**_CLIP_L, "clip_g": "clip_config_bigg.json"}

_KINDS: dict[Family, _Kind] = {
    "sd15": _Kind(_unet([1, 1], 1, [1, 1], 1, 768, **_SD15), "SD15", _CLIP_L),
    # With the real width of the middle block (1280 channels), for nodes that check it.
    "sd15_wide": _Kind(_unet([1, 4], 1, [1, 0], 1, 768, **_SD15), "SD15", _CLIP_L),
    "sd15_full": _Kind(_unet([1, 2, 4, 4], 2, [1, 1, 1, 1, 1, 1, 0, 0], 1, 768, **_SD15), "SD15", _CLIP_L),
    "sd2": _Kind(_unet([1, 1], 1, [1, 1], 1, 1024, **_LATER), "SD20", _CLIP_H),
    "sdxl": _Kind(_unet([1, 1, 1], 2, [0, 0, 2, 2, 10, 10], 10, 2048, **_SDXL), "SDXL", _CLIP_LG),
    "vega": _Kind(_unet([1, 1, 1], 2, [0, 0, 1, 1, 2, 2], -1, 2048, **_SDXL), "Segmind_Vega", _CLIP_LG),
    # Stable Diffusion 3 with one block of width 64. It takes the output of SD 1.5's text encoder, so that it can
    # be sampled without its own text encoders, which take gigabytes.
    "no_h_space": _Kind(
        {
            "input_size": None,
            "in_channels": 16,
            "depth": 1,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 768, "out_features": 64},
            },
        },
        "SD3",
    ),
}


def write_checkpoint(
    source: ComfySource,
    path: Path,
    family: Family,
    *,
    seed: int = 0,
    text_encoder: bool = True,
    vae: bool = True,
    dtype: DType = "float16",
) -> None:
    """Write a checkpoint for CheckpointLoaderSimple, or without text encoder and VAE also for UNETLoader.

    Text encoders and VAE always have their full size: CLIP-L and VAE 0.4 GB in float16, SDXL's encoders
    1.6 GB. Without them, an SDXL UNet needs conditioning of width 2048 from elsewhere.
    "no_h_space" is a tiny transformer and never has either.
    The same arguments give the same file. Raises ComfyUnavailable.
    """
    kind = _KINDS[family]
    unet = family != "no_h_space"
    spec = ModelSpec(
        kind="unet" if unet else "mmdit",
        network=kind.network,
        model_class=kind.model_class,
        clips=kind.clips if text_encoder else {},
        vae=vae and unet,
    )
    state = random_weights.fill(_list_tensors(source, spec), seed, dtype)
    if unet:
        random_weights.add_noise_prediction(state, UNET_PREFIX)
    random_weights.save(state, path)
    log.info("wrote %s (%s, %.0f MB)", path, family, path.stat().st_size / 1e6)


def write_controlnet(
    source: ComfySource, path: Path, family: Family = "sd15", *, seed: int = 0, dtype: DType = "float16"
) -> None:
    """Write a ControlNet for the small UNet of that family, with nonzero residuals."""
    if family == "no_h_space":
        raise ValueError("a ControlNet needs a UNet: choose another family than 'no_h_space'.")
    kind = _KINDS[family]
    network = {name: value for name, value in kind.network.items() if name != "out_channels"}
    spec = ModelSpec(kind="controlnet", network=network, model_class=kind.model_class, clips={}, vae=False)
    state = random_weights.fill(_list_tensors(source, spec), seed, dtype)
    random_weights.clear_noise_channels(state, "control_model.")
    random_weights.save(state, path)


def write_lora(path: Path, unet_checkpoint_path: Path, rank: int = 4, seed: int = 0) -> None:
    """Write a LoRA with kohya's names for all attention layers of a UNet, as large as the weights themselves."""
    import torch
    from safetensors import safe_open

    state: dict[str, torch.Tensor] = {}
    with safe_open(unet_checkpoint_path, "pt") as file:
        for name in sorted(file.keys()):
            if not name.startswith(UNET_PREFIX) or ".attn" not in name or not name.endswith(".weight"):
                continue
            rows, columns = file.get_slice(name).get_shape()
            layer = "lora_unet_" + name[len(UNET_PREFIX) : -len(".weight")].replace(".", "_")
            state[f"{layer}.alpha"] = torch.tensor(float(rank))
            for part, shape in (("lora_down", (rank, columns)), ("lora_up", (rows, rank))):
                state[f"{layer}.{part}.weight"] = random_weights.random_tensor(f"{layer}.{part}.weight", shape, seed)
    if not state:
        raise ValueError(f"{unet_checkpoint_path} has no {UNET_PREFIX}*.attn* weights: is it a UNet?")
    random_weights.save(state, path)


def _list_tensors(source: ComfySource, spec: ModelSpec) -> dict[str, list[int]]:
    """The names and shapes of a checkpoint's tensors, from ComfyUI in a separate process (a few seconds)."""
    script = Path(__file__).with_name("list_tensors.py")
    with temporary_folder("respodiff-shapes-") as tmp:
        output = tmp / "shapes.json"
        command = [str(source.python), str(script), str(source.path), json.dumps(spec), str(output)]
        done = run_child(command, tmp, PYTHONDONTWRITEBYTECODE="1")
        if done.returncode:
            raise ComfyUnavailable(
                f"ComfyUI {source.version} could not list a checkpoint's tensors; install its requirements "
                f"into {source.python} or set COMFYUI_PYTHON:\n{done.stderr.strip()[-2000:]}"
            )
        shapes: dict[str, list[int]] = json.loads(output.read_text("utf-8"))
    return shapes
