"""ComfyUI's own code in this process, with a randomly initialized model and adapters for it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import passive  # noqa: F401
import torch
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.trainer.comfyui.source import ComfySource, cache_directory, fetch, users_own
from small_models import Family, write_checkpoint


def import_comfyui() -> ComfySource:
    """Make ComfyUI's modules importable; returns the ComfyUI."""
    source = users_own() or fetch("0.30.0")
    sys.path.insert(0, str(source.path))
    sys.argv = ["benchmark"] + ([] if torch.cuda.is_available() else ["--cpu"])
    importlib.import_module("comfy.options").enable_args_parsing()
    return source


def load_model(family: Family) -> tuple[ComfySource, Any]:
    """The ComfyUI and a MODEL of that family; the checkpoint is written on first use."""
    source = import_comfyui()
    checkpoint = cache_directory() / "models" / "diffusion_models" / f"benchmark_{family}.safetensors"
    if not checkpoint.exists():
        print(f"Writing {checkpoint.name} with random weights ...")
        write_checkpoint(source, checkpoint, family, text_encoder=False, vae=False)
    comfy_sd = importlib.import_module("comfy.sd")
    # float32 on a CPU: float16 would be cast in every layer at every step.
    model_options = {} if torch.cuda.is_available() else {"dtype": torch.float32}
    return source, comfy_sd.load_diffusion_model(str(checkpoint), model_options=model_options)


def h_shape(model: Any, pixels: int) -> tuple[int, int, int]:
    """(C, height, width) of the model's h for square images of this size in pixels."""
    unet = importlib.import_module("respodiff.nodes.host.unet")
    downscale = 2 ** (len(model.model.model_config.unet_config["channel_mult"]) - 1)
    side = pixels // 8 // downscale
    return unet.sites_of(model)["middle"], side, side


def random_adapter(concepts: int, shape: tuple[int, int, int]) -> Adapter:
    module = Transform.of({"": 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))})
    named = (ConceptInfo(f"concept {index}") for index in range(concepts))
    return Adapter("sd15", {info.name: ModuleConcept(info, module, module) for info in named}, "epsilon")


def sample(model: Any, images: int, pixels: int, steps: int) -> None:
    """One call of ComfyUI's sampler on square images, with a positive and a negative prompt."""
    comfy_sample = importlib.import_module("comfy.sample")
    generator = torch.Generator().manual_seed(0)
    width = model.model.model_config.unet_config["context_dim"]
    positive, negative = ([[torch.randn(1, 77, width, generator=generator), {}]] for _ in range(2))
    noise = torch.randn(images, 4, pixels // 8, pixels // 8, generator=generator)
    empty = torch.zeros_like(noise)
    with torch.inference_mode():
        comfy_sample.sample(
            model, noise, steps, 7.0, "euler", "normal", positive, negative, empty, seed=0, disable_pbar=True
        )
