"""Which ComfyUI the tests use, its small checkpoints, and a server of it with the pack linked in.

RESPODIFF_HOSTS names the versions ("0.30.0 0.18.2" by default); COMFYUI_PATH, the user's own, wins. A host that
cannot be had is an error, never a skip; `RESPODIFF_HOSTS=none` leaves the tests that need one out on purpose.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import small_models
from respodiff.trainer.comfyui.server import ComfyServer
from respodiff.trainer.comfyui.source import ComfySource, cache_directory, fetch, users_own

PACK = Path(__file__).parents[1]
YOURS = "COMFYUI_PATH"
NEWEST = "0.30.0"
MODEL_KINDS = ("diffusion_models", "checkpoints", "controlnet", "loras")

_CHECKPOINTS: dict[str, tuple[small_models.Family, dict[str, Any]]] = {
    "diffusion_models/sd15.safetensors": ("sd15", {"text_encoder": False, "vae": False, "dtype": "float32"}),
    "diffusion_models/sd15_wide.safetensors": ("sd15_wide", {"text_encoder": False, "vae": False}),
    "diffusion_models/sdxl.safetensors": ("sdxl", {"text_encoder": False, "vae": False, "dtype": "float32"}),
    "diffusion_models/no_h_space.safetensors": ("no_h_space", {}),
    "checkpoints/sd15.safetensors": ("sd15", {"dtype": "float16"}),
    "checkpoints/sdxl.safetensors": ("vega", {"dtype": "float16"}),
}


def hosts() -> list[str]:
    """The hosts to test on; none where the tests are to be left out."""
    if os.environ.get("COMFYUI_PATH"):
        return [YOURS]
    named = os.environ.get("RESPODIFF_HOSTS", f"{NEWEST} 0.18.2").split()
    return [] if named == ["none"] else named


def source_of(host: str) -> ComfySource:
    """The tree of a host. Raises ComfyUnavailable."""
    own = users_own()
    return own if host == YOURS and own else fetch(host)


def small_checkpoint(source: ComfySource, name: str) -> Path:
    """One of the small checkpoints, written on first use and kept between runs, the same for all hosts."""
    path = cache_directory() / "models" / name
    if not path.exists():
        family, options = _CHECKPOINTS[name]
        small_models.write_checkpoint(source, path, family, **options)
    return path


def models_folder(source: ComfySource) -> Path:
    """A models folder with all small checkpoints, a ControlNet and a LoRA."""
    for name in _CHECKPOINTS:
        small_checkpoint(source, name)
    folder = cache_directory() / "models"
    if not (folder / "controlnet/sd15.safetensors").exists():
        small_models.write_controlnet(source, folder / "controlnet/sd15.safetensors", dtype="float32")
    if not (folder / "loras/sd15.safetensors").exists():
        small_models.write_lora(folder / "loras/sd15.safetensors", folder / "diffusion_models/sd15.safetensors")
    return folder


def make_server(source: ComfySource, base: Path, models: Path | None = None) -> ComfyServer:
    """A server, not yet started, with the pack linked in; it finds `models` and the adapters in base/shared."""
    shared = base / "shared" / "respodiff"
    shared.mkdir(parents=True)
    paths = base / "extra_model_paths.yaml"
    kinds = {kind: models / kind for kind in MODEL_KINDS} if models else {}
    lines = "\n".join(f"  {kind}: {folder}" for kind, folder in {**kinds, "respodiff": shared}.items())
    paths.write_text(f"tests:\n{lines}\n")
    compiled = str(cache_directory() / "compiled")  # else in the system's temporary folder
    options = ["--extra-model-paths-config", str(paths)]
    return ComfyServer(source, base, PACK, options, {"TORCHINDUCTOR_CACHE_DIR": compiled})
