"""What ComfyUI loads, the trainer loads as the same model: steered predictions agree on the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from base_variants import FILES, drop, quantised, scaled_as_before
from comfy_bench import Bench, make_adapter, sample, steer
from comfy_graph import Graph, output
from comfy_hosts import hosts, make_server, small_checkpoint, source_of
from respodiff.trainer.base.model import load_base
from safetensors.torch import load_file, save_file
from small_bases import State

PROMPT = "a photo of a doctor, and a very long description of the room behind"
PIXELS, LATENT = 64, (8, 8)
Change = Callable[[State], None]


def changed_as(*names: str) -> Change:
    def change(state: State) -> None:
        for name in names:
            FILES[name].change(state)

    return change


def v_prediction_with_zero_snr(state: State) -> None:
    FILES["sdxl_projection_in_hugging_faces_name"].change(state)
    state |= {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}


def without_vae(state: State) -> None:
    drop(state, "first_stage_model.")


# Family, change and how close: quantised weights are multiplied in another order. What ComfyUI does not load, or not
# as what it is (long CLIPs in checkpoints, v-prediction of SD1.5), is not here.
VARIANTS: dict[str, tuple[str, Change, float]] = {
    "merged, with leftovers": ("sd15", changed_as("ip_adapter_keys", "unknown_unet_keys", "lora_keys"), 1e-4),
    "NAI's names": ("sd15", changed_as("nai_names"), 1e-4),
    "bf16": ("sd15", changed_as("bf16"), 1e-4),
    "fp8": ("sd15", changed_as("fp8_without_scales"), 1e-2),
    "fp8 with scales, older": ("sd15", scaled_as_before, 1e-2),
    "fp8 with scales": ("sd15", lambda state: quantised(state, "float8_e4m3fn"), 1e-2),
    # At a sigma of 4518 the prediction of the image loses digits.
    "SDXL, v-prediction, zero SNR, projection by another name": ("sdxl", v_prediction_with_zero_snr, 1e-3),
}


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The newest host, whose loading is the measure."""
    server = make_server(source_of(hosts()[0]), tmp_path_factory.mktemp("variants"))
    server.link_node_pack(Path(__file__).parent / "probe_nodes", "probe_nodes")
    with server:
        yield Bench(server)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_steered_prediction_is_comfyuis(newest, name):
    family, change, allowed = VARIANTS[name]
    state = load_file(small_checkpoint(newest.server.source, f"checkpoints/{family}.safetensors"))
    change(state)
    without_vae(state)
    file = (
        newest.server.base_directory / "models" / "checkpoints" / f"{name}.safetensors"
    )  # ComfyUI keeps what it loaded
    file.parent.mkdir(exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file)
    adapter = replace(make_adapter(family, "woman"), prediction="v" if "v_pred" in state else "epsilon")
    del state
    newest.save_adapter(adapter)

    graph = Graph()
    checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name=file.name)
    model = steer(graph, checkpoint, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"), "woman", 0.5)
    prompts = {
        role: graph.add("CLIPTextEncode", clip=output(checkpoint, 1), text=text)
        for role, text in (("positive", PROMPT), ("negative", ""))
    }
    recorded = graph.add("ProbeRecord", model=model, name="record")
    sample(graph, recorded, family, steps=1, size=(PIXELS, PIXELS), **prompts)
    newest.run(graph)
    call = newest.record()[0]

    base = load_base(file, latent_size=LATENT)
    condition = base.encode_prompts([PROMPT])
    sigma = call["sigma"][0]
    z = call["latent"][:1] / (sigma**2 + 1).sqrt()
    with torch.inference_mode():
        h, carry = base.denoiser.encode(z, call["timestep"][:1].round().long(), condition)
        woman = adapter.concepts["woman"]
        noise = base.denoiser.decode(h + 0.5 * (woman.ram(h) + woman.sam(h)), carry, condition)
    denoised = call["latent"][:1] - sigma * noise
    file.unlink()
    assert (call["prediction0"] - denoised).norm() / denoised.norm() <= allowed
