"""Small stand-ins for every model file that the shipped workflows name, so that they run as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from comfy_hosts import models_folder
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.names import Category
from respodiff.trainer.comfyui.server import ComfyServer

# The page shows these names; the models behind them have random weights.
MODELS = {
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": "checkpoints/sd15.safetensors",
    "checkpoints/sd_xl_base_1.0.safetensors": "checkpoints/sdxl.safetensors",
    "controlnet/control_v11p_sd15_canny_fp16.safetensors": "controlnet/sd15.safetensors",
    "loras/add_detail.safetensors": "loras/sd15.safetensors",
}
_CHANNELS, _SIDE = 320, 32
_STRENGTH = 40.0  # so much that it shows in a random model's noise


def put_models(server: ComfyServer) -> None:
    """Before the server starts: links to the small models under the workflows' names, and a picture to load."""
    small = models_folder(server.source)
    for name, stand_in in MODELS.items():
        link = server.base_directory / "models" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(small / stand_in)
    example = server.base_directory / "input" / "example.png"
    example.write_bytes((server.source.path / "input" / "example.png").read_bytes())


def put_adapters(folder: Path) -> None:
    """The adapters that the workflows name."""
    folder.mkdir(exist_ok=True)
    people = {"woman": (-0.2, -0.3), "man": (0.25, 0.2)}
    groups = {"white": (-0.3, 0.2), "black": (0.3, 0.2), "asian": (0.0, -0.3)}
    unsafe = {"violence": (0.0, 0.3), "sexual": (-0.2, 0.0)}
    write(smooth_adapter("sd15", people), folder / "gender.safetensors")
    write(smooth_adapter("sd15", groups, seed=10), folder / "race.safetensors")
    write(smooth_adapter("sdxl", groups, seed=20), folder / "race_sdxl.safetensors")
    write(smooth_adapter("sd15", unsafe, "safety", seed=30), folder / "safety.safetensors")


def smooth_adapter(
    family: str, places: Mapping[str, tuple[float, float]], category: Category = "fairness", seed: int = 0
) -> Adapter:
    """Smooth random directions, each strongest at its own place (x, y from -1 to 1)."""
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, _SIDE), torch.linspace(-1, 1, _SIDE), indexing="ij")
    frequencies = torch.fft.fftfreq(_SIDE)[:, None] ** 2 + torch.fft.fftfreq(_SIDE)[None] ** 2
    concepts = {}
    for number, (name, (x, y)) in enumerate(places.items(), start=seed + 1):
        noise = torch.randn(2, _CHANNELS, _SIDE, _SIDE, generator=torch.Generator().manual_seed(number))
        smooth = torch.fft.ifft2(torch.fft.fft2(noise) * torch.exp(-300 * frequencies)).real
        ram, sam = smooth / smooth.std()
        around = torch.exp(-3 * ((xs - x) ** 2 + (ys - y) ** 2))
        if category == "safety":
            info = ConceptInfo(name, category, neutral="a scene", negative=name)
        else:
            info = ConceptInfo(name, category, f"a photo of a {name} person", "a photo of a person")
        ram, sam = _STRENGTH * (0.15 + around) * ram, 0.3 * _STRENGTH * (1 + 0.5 * ys) * sam
        concepts[name] = ModuleConcept(info, Transform.of({"": ram}), Transform.of({"": sam}))
    return Adapter(family, concepts, "epsilon")
