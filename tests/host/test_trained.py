"""From a checkpoint file to a steered picture: trained by `respodiff train`, used by ComfyUI on that same file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comfy_bench import Bench, sample, steer
from comfy_graph import Graph, output
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.trainer.base.model import load_base
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run.training import train

PROMPT = "a photo of a doctor"
PIXELS, LATENT = 64, (8, 8)


@pytest.fixture(scope="module")
def trained(models: Path, family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training on the small checkpoint; no network is needed, and none is asked."""
    recipe = Recipe.of(
        {
            "base": str(models / "checkpoints" / f"{family}.safetensors"),
            "output": str(tmp_path_factory.mktemp("trained") / f"{family}.safetensors"),
            "concepts": [{"preset": "gender/woman", "steps": 3, "ram_rate": 0.3, "sam_rate": 0.03}],
            "training": {
                "batch": 1,
                "pool": 1,
                "width": PIXELS,
                "height": PIXELS,
                "schedule_steps": 5,
                "device": "cpu",
            },
            "saving": {"tensorboard": False},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return train(recipe)


@pytest.fixture(scope="module", params=("sd15", "sdxl"))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_trained_adapter_steers_the_file_it_was_trained_on(bench: Bench, models: Path, family: str, trained: Path):
    adapter = read(trained)
    assert adapter.family == family
    bench.save_adapter(adapter)
    predictions = {}
    for strength in (0.0, 1.0):
        graph = Graph()
        checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name=f"{family}.safetensors")
        loaded = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        model = steer(graph, checkpoint, loaded, "woman", strength)
        prompts = {
            role: graph.add("CLIPTextEncode", clip=output(checkpoint, 1), text=text)
            for role, text in (("positive", PROMPT), ("negative", ""))
        }
        sample(
            graph,
            graph.add("ProbeRecord", model=model, name="record"),
            family,
            steps=1,
            size=(PIXELS, PIXELS),
            **prompts,
        )
        bench.run(graph)
        predictions[strength] = bench.record()[0]

    base = load_base(models / "checkpoints" / f"{family}.safetensors", latent_size=LATENT)
    condition = base.encode_prompts([PROMPT])
    for strength, call in predictions.items():
        sigma = call["sigma"][0]
        z = call["latent"][:1] / (sigma**2 + 1).sqrt()
        with torch.inference_mode():
            h, carry = base.denoiser.encode(z, call["timestep"][:1].round().long(), condition)
            woman = adapter.concepts["woman"]
            steered = h + strength * (woman.ram(h) + woman.sam(h))
            noise = base.denoiser.decode(steered, carry, condition)
        denoised = call["latent"][:1] - sigma * noise
        assert (call["prediction0"] - denoised).norm() / denoised.norm() <= 1e-3
    change = predictions[1.0]["prediction0"] - predictions[0.0]["prediction0"]
    assert change.norm() / predictions[0.0]["prediction0"].norm() > 1e-2, "steering is far larger than the tolerance"
