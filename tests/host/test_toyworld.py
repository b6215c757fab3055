"""ToyWorld in a real ComfyUI: what the demo samples there is what diffusers samples from the same folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, relative, sample, steer, vector_of
from comfy_graph import Graph, Link, output
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.trainer.base.model import load_base
from respodiff.trainer.comfyui.outputs import NodeFailed
from respodiff.trainer.support.contact_sheet import pixels
from respodiff.trainer.toyworld import TOYWORLD, TOYWORLD_FOLDER
from respodiff.trainer.toyworld.host import Steered, ToyWorldInComfyUI
from toyworld_graph import SIZE, conditions, empty, load_toyworld, sampled, toyworld_clip, toyworld_vae

PROBES = Path(__file__).parent / "probe_nodes"
PROMPTS = ["a photo of a doctor", "a violet nurse in a park", "a scene with a hazard"]
H_SHAPE = (96, 4, 4)
FIRST_TIMESTEP = 981  # of 50


@pytest.fixture(scope="module")
def server(host, models, tmp_path_factory) -> Iterator[ToyWorldInComfyUI]:
    toyworld_host = ToyWorldInComfyUI(host, tmp_path_factory.mktemp("toyworld"))
    toyworld_host.link_node_pack(PROBES, "probe_nodes")
    (toyworld_host.base_directory / "models" / "diffusion_models").symlink_to(models / "diffusion_models")
    with toyworld_host:
        yield toyworld_host


@pytest.fixture
def bench(server) -> Bench:
    return Bench(server)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(TOYWORLD_FOLDER).to(torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=True)  # as ComfyUI ends
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def adapter() -> Adapter:
    generator = torch.Generator().manual_seed(5)
    ram, sam = (Transform.of({"": scale * torch.randn(H_SHAPE, generator=generator)}) for scale in (1.0, 0.5))
    return Adapter("toyworld", {"square": ModuleConcept(ConceptInfo("square"), ram, sam)}, "epsilon")


def load_adapter(graph: Graph) -> Link:
    return graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")


def save(adapter: Adapter, folder: Path) -> Path:
    write(adapter, folder / "square.safetensors")
    return folder / "square.safetensors"


def one_step(bench: Bench, graph: Graph, model: Link, prompts: list[str]) -> dict[str, torch.Tensor]:
    """What the UNet is given in a step on a batch with one prompt an image, and what it predicts."""
    sample(
        graph,
        graph.add("ProbeRecord", model=model, name="record"),
        "toyworld",
        size=(SIZE, SIZE),
        batch=len(prompts),
        steps=1,
        **conditions(graph, "\n".join(prompts)),
    )
    bench.run(graph)
    (call,) = bench.record()
    return call


def noise_in(call: dict[str, torch.Tensor], condition: int) -> torch.Tensor:
    """The noise that the UNet saw for the positive (0) or negative (1) condition."""
    return (call["latent"] - call[f"prediction{condition}"]) / call["sigma"][0]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest of the images' errors."""
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize("strength", [None, 1.0, -0.5])
@torch.inference_mode()
def test_the_prediction_is_that_of_diffusers(bench, pipeline, adapter, strength):
    bench.save_adapter(adapter)
    graph = Graph()
    model = load_toyworld(graph)
    if strength is not None:
        model = steer(graph, model, load_adapter(graph), "square", strength)
    call = one_step(bench, graph, model, PROMPTS)

    positive, negative = pipeline.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=True)
    x = call["latent"] / (call["sigma"][0] ** 2 + 1) ** 0.5
    unet, t = pipeline.unet, call["timestep"][0]
    assert relative_error(noise_in(call, 1), unet(x, t, negative).sample) <= 1e-4
    vector = (strength or 0.0) * vector_of(adapter, "square")
    with unet.mid_block.register_forward_hook(lambda _module, _args, h: h + vector):
        assert relative_error(noise_in(call, 0), unet(x, t, positive).sample) <= 1e-4


def test_each_image_has_its_own_prompt(bench):
    """Another second prompt gives another second image, and leaves the others as they are."""
    first, second = (
        noise_in(one_step(bench, graph := Graph(), load_toyworld(graph), prompts), 0)
        for prompts in (PROMPTS, [PROMPTS[0], "a round farmer on a beach", PROMPTS[2]])
    )
    changes = (first - second).flatten(1).norm(dim=1) / first.flatten(1).norm(dim=1)
    assert changes[1] > 1e-3
    assert max(changes[0], changes[2]) < 1e-6


@pytest.mark.parametrize("strength", [None, 1.0])
@torch.inference_mode()
def test_sampling_is_ddim_of_diffusers(server, pipeline, adapter, tmp_path, strength):
    """ComfyUI begins with just the noise that the first timestep stands for, and leaves none at the end."""
    steered = strength and Steered(save(adapter, tmp_path), "square", strength)
    found = server.sample(PROMPTS, seed=3, steered=steered)

    noise = torch.randn(len(PROMPTS), 4, 16, 16, generator=torch.Generator().manual_seed(3))
    noise *= (1 - pipeline.scheduler.alphas_cumprod[FIRST_TIMESTEP]) ** 0.5
    vector = (strength or 0.0) * vector_of(adapter, "square")
    positive_only = torch.tensor([0.0, 1.0]).repeat_interleave(len(PROMPTS)).view(-1, 1, 1, 1)  # negative rows first
    with pipeline.unet.mid_block.register_forward_hook(lambda _module, _args, h: h + positive_only * vector):
        expected = pipeline(PROMPTS, latents=noise, guidance_scale=7.5, output_type="latent").images
    assert found.shape == (3, 4, 16, 16)
    assert found.dtype == torch.float32
    assert relative_error(found, expected / pipeline.vae.config.scaling_factor) <= 1e-4


def test_fair_prompts_gives_the_images_of_its_prompts(bench):
    def run(graph: Graph, positive: Link) -> tuple[torch.Tensor, dict[str, Any]]:
        latent = sampled(graph, load_toyworld(graph), "", empty(graph, 4), steps=4, positive=positive)
        saver, _ = graph.add("SaveLatent", samples=latent, filename_prefix="prompts")
        outputs = bench.run(graph).outputs
        return bench.saved_latent(outputs[saver]), outputs

    graph = Graph()
    words = {"prompt": "a photo of a {} doctor", "groups": "round\nsquare = 3", "none_share": 0.0}
    settings = {"allocation": "balanced", "seed": 1, "batch_size": 4, "guard": False}
    fair = graph.add("RespoDiffFairPrompts", clip=toyworld_clip(graph), **words, **settings)
    shown = graph.add("PreviewAny", source=output(fair, 2))
    found, outputs = run(graph, fair)
    groups = outputs[shown[0]]["text"][0].splitlines()
    assert sorted(groups) == ["round", "square", "square", "square"]
    graph = Graph()
    prompts = "\n".join(f"a photo of a {group} doctor" for group in groups)
    expected, _ = run(graph, graph.add("ToyWorldPrompts", clip=toyworld_clip(graph), prompts=prompts))
    assert relative(found, expected) < 1e-5


def test_one_server_samples_again_and_again(server, adapter, tmp_path):
    def latents(steered: Steered | None = None) -> torch.Tensor:
        return server.sample(PROMPTS, seed=3, steps=2, steered=steered)

    path = save(adapter, tmp_path)
    unsteered = latents()
    assert torch.equal(latents(), unsteered)
    assert torch.equal(latents(Steered(path, "square", 0.0)), unsteered)
    assert not torch.equal(latents(Steered(path, "square")), unsteered)


@torch.inference_mode()
def test_pictures_are_those_that_the_trainer_decodes(bench):
    graph = Graph()
    settings = {"size": (SIZE, SIZE), "steps": 2} | conditions(graph, PROMPTS[0])
    latent = sample(graph, load_toyworld(graph), "toyworld", **settings)
    graph.add(
        "SaveImage",
        images=graph.add("VAEDecode", vae=toyworld_vae(graph), samples=latent),
        filename_prefix="one",
    )
    outputs = bench.run(graph).outputs
    (saved,) = outputs[graph.id_of("SaveImage")]["images"]
    with Image.open(bench.server.output_path(saved)) as picture:
        found = np.asarray(picture)
    base = load_base(TOYWORLD)
    (expected,) = base.decode_latents(bench.saved_latent(outputs[graph.id_of("SaveLatent")]) * base.latent_scale)
    assert found.shape == (64, 64, 3)
    assert np.abs(found.astype(int) - pixels(expected)).max() <= 1  # ComfyUI cuts where the trainer rounds


def test_an_adapter_for_stable_diffusion_is_refused(server, tmp_path):
    path = tmp_path / "woman.safetensors"
    write(make_adapter("sd15"), path)
    with pytest.raises(NodeFailed, match=r"made for Stable Diffusion 1\.x, this model is ToyWorld"):
        server.sample(PROMPTS, seed=3, steered=Steered(path, "woman"))


def test_stable_diffusion_refuses_an_adapter_for_toyworld(bench, adapter):
    bench.save_adapter(adapter)
    graph = Graph()
    sample(graph, steer(graph, load_unet(graph, "sd15"), load_adapter(graph), "square"), "sd15", steps=1)
    error = bench.error(graph)
    assert error.node_type == "RespoDiffSteer"
    assert "made for ToyWorld, this model is Stable Diffusion 1.x" in error.message
