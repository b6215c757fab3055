"""Real ComfyUI servers with the pack linked in, small checkpoints, and a bench to run graphs on them.

RESPODIFF_HOSTS names the versions ("0.30.0 0.18.2" by default); COMFYUI_PATH, the user's own, wins. A host that
cannot be had is an error, never a skip; `RESPODIFF_HOSTS=none` leaves these tests out on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import Bench
from respodiff.trainer.comfyui import small_models
from respodiff.trainer.comfyui.server import ComfyServer
from respodiff.trainer.comfyui.source import ComfySource, cache_directory, fetch, users_own

PACK = Path(__file__).parents[2]
PROBES = Path(__file__).parent / "probe_nodes"
YOURS = "COMFYUI_PATH"
FAMILIES = ("sd15", "sdxl")


def hosts() -> list[str]:
    return [YOURS] if os.environ.get("COMFYUI_PATH") else os.environ.get("RESPODIFF_HOSTS", "0.30.0 0.18.2").split()


def source_of(host: str) -> ComfySource:
    own = users_own()
    return own if host == YOURS and own else fetch(host)


@pytest.fixture(scope="session", params=hosts())
def host(request: pytest.FixtureRequest) -> ComfySource:
    return source_of(request.param)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with small checkpoints, the same for all hosts, kept between runs."""
    folder = cache_directory() / "models"
    wanted: dict[str, Any] = {
        "diffusion_models/sd15.safetensors": ("sd15", {"text_encoder": False, "vae": False, "dtype": "float32"}),
        "diffusion_models/sd15_wide.safetensors": ("sd15_wide", {"text_encoder": False, "vae": False}),
        "diffusion_models/sdxl.safetensors": ("sdxl", {"text_encoder": False, "vae": False, "dtype": "float32"}),
        "diffusion_models/no_h_space.safetensors": ("no_h_space", {}),
        "checkpoints/sd15.safetensors": ("sd15", {"dtype": "float16"}),
    }
    source = source_of(hosts()[0])
    for name, (family, options) in wanted.items():
        if not (folder / name).exists():
            small_models.write_checkpoint(source, folder / name, family, **options)
    if not (folder / "controlnet/sd15.safetensors").exists():
        small_models.write_controlnet(source, folder / "controlnet/sd15.safetensors", dtype="float32")
    if not (folder / "loras/sd15.safetensors").exists():
        small_models.write_lora(folder / "loras/sd15.safetensors", folder / "diffusion_models/sd15.safetensors")
    return folder


@pytest.fixture(scope="session")
def bench(host: ComfySource, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    base = tmp_path_factory.mktemp(f"comfyui-{host.version}")
    (base / "shared" / "respodiff").mkdir(parents=True)
    paths = base / "extra_model_paths.yaml"
    kinds = "\n".join(
        f"  {kind}: {models / kind}" for kind in ("diffusion_models", "checkpoints", "controlnet", "loras")
    )
    paths.write_text(f"tests:\n{kinds}\n  respodiff: {base / 'shared' / 'respodiff'}\n")
    server = ComfyServer(host, base, PACK, ["--extra-model-paths-config", str(paths)])
    server.link_node_pack(PROBES, "probe_nodes")
    with server:
        yield Bench(server)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param
