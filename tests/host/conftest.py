"""Real ComfyUI servers with the pack linked in, small checkpoints, and a bench to run graphs on them.

RESPODIFF_HOSTS names the versions ("0.30.0 0.18.2" by default); COMFYUI_PATH, the user's own, wins. A host that
cannot be had is an error, never a skip; `RESPODIFF_HOSTS=none` leaves these tests out on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_graph import Graph, Link
from respodiff.respodiff_core.adapter import Adapter, write
from respodiff.respodiff_core.concept import Concept, ConceptInfo
from respodiff.respodiff_core.transforms import Transform
from respodiff.trainer.comfyui import small_models
from respodiff.trainer.comfyui.results import NodeError, Result
from respodiff.trainer.comfyui.server import ComfyServer
from respodiff.trainer.comfyui.source import ComfySource, cache_directory, fetch, users_own
from safetensors.torch import load_file, save_file

PACK = Path(__file__).parents[2]
PROBES = Path(__file__).parent / "probe_nodes"
YOURS = "COMFYUI_PATH"
FAMILIES = ("sd15", "sdxl")
# h of a 64 x 64 pixel image in the small UNets (channels, height, width).
H_SHAPE = {"sd15": (320, 4, 4), "sdxl": (320, 2, 2)}


def hosts() -> list[str]:
    return [YOURS] if os.environ.get("COMFYUI_PATH") else os.environ.get("RESPODIFF_HOSTS", "0.30.0 0.18.2").split()


def source_of(host: str) -> ComfySource:
    own = users_own()
    return own if host == YOURS and own else fetch(host)


@dataclass(frozen=True)
class Bench:
    """A running server and what tests do with it."""

    server: ComfyServer

    @property
    def adapters(self) -> Path:
        return self.server.base_directory / "models" / "respodiff"

    def run(self, graph: Graph) -> Result:
        return self.server.run(graph)

    def error(self, graph: Graph) -> NodeError:
        """The error a graph is expected to end with."""
        result = self.server.run(graph, check=False)
        assert result.error is not None, "the graph was expected to fail"
        return result.error

    def latent(self, graph: Graph) -> torch.Tensor:
        """Run a graph with one SaveLatent and read what it saved."""
        (saved,) = self.run(graph).outputs[graph.id_of("SaveLatent")]["latents"]
        return load_file(self.server.output_path(saved))["latent_tensor"]

    def record(self, name: str = "record") -> list[dict[str, torch.Tensor]]:
        """What ProbeRecord saved in the last run: one dict per UNet call."""
        calls: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(self.server.base_directory / "output" / f"{name}.safetensors").items():
            call, _, what = key.partition(".")
            calls.setdefault(call, {})[what] = tensor
        return [calls[call] for call in sorted(calls)]

    def save_vector(self, vector: torch.Tensor, name: str = "vector.safetensors") -> str:
        save_file({"vector": vector.contiguous()}, self.server.base_directory / "input" / name)
        return name

    def save_adapter(self, adapter: Adapter, name: str = "test.safetensors") -> str:
        write(adapter, self.adapters / name)
        return name


@pytest.fixture(scope="session", params=hosts())
def host(request: pytest.FixtureRequest) -> ComfySource:
    return source_of(request.param)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with small checkpoints, the same for all hosts, kept between runs."""
    folder = cache_directory() / "models"
    wanted: dict[str, Any] = {
        "diffusion_models/sd15.safetensors": ("sd15", {"text_encoder": False, "vae": False, "dtype": "float32"}),
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


def make_adapter(family: str, *names: str, scale: float = 1.0, seed: int = 0, **info: Any) -> Adapter:
    """Random constants of the small UNet's h-space, each concept another."""
    concepts = {}
    for name in names or ("woman",):
        seed += 1
        generator = torch.Generator().manual_seed(seed)
        ram, sam = (
            Transform.of({"": scale * s * torch.randn(H_SHAPE[family], generator=generator)}) for s in (1.0, 0.5)
        )
        concepts[name] = Concept(ConceptInfo(name, **info), ram, sam)
    return Adapter(family, concepts, "epsilon")


def vector_of(adapter: Adapter, name: str = "woman", ram: float = 1.0, sam: float = 1.0) -> torch.Tensor:
    """What a concept adds to h, by hand."""
    concept = adapter.concepts[name]
    return ram * concept.ram.tensors[""] + sam * concept.sam.tensors[""]


def load_unet(graph: Graph, family: str) -> Link:
    return graph.add("UNETLoader", unet_name=f"{family}.safetensors", weight_dtype="default")


def steer(graph: Graph, model: Link, adapter: Link, concept: str = "woman", strength: float = 1.0, **more: Any) -> Link:
    return graph.add(
        "RespoDiffSteer", **(STEER_DEFAULTS | more), model=model, adapter=adapter, concept=concept, strength=strength
    )


STEER_DEFAULTS = {
    "ram_strength": 1.0,
    "sam_strength": 1.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
    "prompt": "positive",
}


def sample(
    graph: Graph, model: Link, family: str, *, size: tuple[int, int] = (64, 64), batch: int = 1, **more: Any
) -> Link:
    """KSampler on two known conditions (1 positive, 2 negative) and SaveLatent; returns the latent."""
    settings = {
        "seed": 7,
        "steps": 2,
        "cfg": 4.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "positive": ["condition", 1],
        "negative": ["condition", 2],
    } | more
    for prompt in ("positive", "negative"):
        if settings[prompt][0] == "condition":
            settings[prompt] = graph.add("ProbeCondition", seed=settings[prompt][1], family=family, tokens=77)
    if "latent_image" not in settings:
        width, height = size
        settings["latent_image"] = graph.add("EmptyLatentImage", width=width, height=height, batch_size=batch)
    latent = graph.add("KSampler", model=model, **settings)
    graph.add("SaveLatent", samples=latent, filename_prefix="latent")
    return latent
