"""What is refused, in a sentence on the node, with the server alive afterwards."""

from __future__ import annotations

import pickle

import pytest
import torch
from comfy_bench import load_unet, make_adapter, sample, steer
from comfy_graph import Graph
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.trainer.comfyui.client import PromptRejected
from safetensors.torch import save_file


@pytest.fixture(autouse=True)
def server_stays_alive(bench):
    """After every refusal the server runs the next graph."""
    yield
    bench.save_adapter(make_adapter("sd15"), "fine.safetensors")
    graph = Graph()
    model = steer(graph, load_unet(graph, "sd15"), graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors"))
    sample(graph, model, "sd15", steps=1)
    assert torch.isfinite(bench.latent(graph)).all()


def graph_with(adapter_name: str, family: str = "sd15", concept: str = "woman", **how) -> Graph:
    graph = Graph()
    model = load_unet(graph, family)
    model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter=adapter_name), concept, **how)
    sample(graph, model, "sd15", steps=1)
    return graph


@pytest.mark.parametrize(("made_for", "used_on"), [("sdxl", "sd15"), ("sd15", "sdxl")])
def test_an_adapter_of_another_family_names_both(bench, made_for, used_on):
    bench.save_adapter(make_adapter(made_for))
    error = bench.error(graph_with("test.safetensors", used_on))
    titles = {"sd15": "Stable Diffusion 1.x", "sdxl": "Stable Diffusion XL"}
    assert error.node_type == "RespoDiffSteer"
    assert f"made for {titles[made_for]}, this model is {titles[used_on]}" in error.message
    assert "Load a" in error.message


@pytest.mark.parametrize("with_family", [True, False])
def test_an_adapter_of_another_width_names_both(bench, with_family):
    wide = make_adapter("sd15")
    for module in (wide.concepts["woman"].ram, wide.concepts["woman"].sam):
        module.__dict__["tensors"] = {"": torch.zeros(1280, 8, 8)}
    bench.save_adapter(Adapter("sd15" if with_family else None, wide.concepts))
    error = bench.error(graph_with("test.safetensors"))
    assert "1280 channels, that of this model has 320" in error.message


def test_a_model_without_h_space(bench):
    bench.save_adapter(make_adapter("sd15"))
    error = bench.error(graph_with("test.safetensors", "no_h_space"))
    assert error.node_type == "RespoDiffSteer"
    assert "no h-space" in error.message
    assert "SDXL" in error.message


def raw(bench, tensors, name="raw.safetensors", metadata=None):
    save_file(tensors, bench.adapters / name, metadata)
    return name


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers(bench, bad):
    broken = torch.zeros(320, 4, 4)
    broken[3, 2, 1] = bad
    error = bench.error(graph_with(raw(bench, {"woman.ram": broken, "woman.sam": torch.zeros(320, 4, 4)})))
    assert error.node_type == "RespoDiffLoadAdapter"
    assert "RAM of concept 'woman' contains NaN or infinite values" in error.message


@pytest.mark.parametrize("content", ["truncated", "text", "empty"])
def test_files_that_are_no_safetensors(bench, content):
    whole = bench.adapters / bench.save_adapter(make_adapter("sd15"))
    data = {"truncated": whole.read_bytes()[:-100], "text": b"<html>not found</html>" * 9, "empty": b""}[content]
    (bench.adapters / "broken.safetensors").write_bytes(data)
    error = bench.error(graph_with("broken.safetensors"))
    assert "broken.safetensors is not a whole safetensors file" in error.message
    assert "Download or train it again" in error.message


def test_a_pth_file_of_something_else(bench):
    (bench.adapters / "unet.pth").write_bytes(pickle.dumps({}))
    error = bench.error(graph_with("unet.pth"))
    assert "unet.pth is not a file of plain tensors, so it is not opened" in error.message


@pytest.mark.parametrize("suffix", ["pt", "ckpt"])
def test_pickles_are_sent_to_the_importer(bench, suffix):
    (bench.adapters / f"unet.{suffix}").write_bytes(pickle.dumps({}))
    error = bench.error(graph_with(f"unet.{suffix}"))
    assert f"respodiff import unet.{suffix}" in error.message


def test_a_file_that_is_not_there(bench):
    error = bench.error(graph_with("gone.safetensors"))
    assert "no adapter 'gone.safetensors'" in error.message
    assert "respodiff" in error.message


def test_a_path_out_of_the_folder(bench):
    assert "no adapter" in bench.error(graph_with("../../../secret.safetensors")).message


def test_a_concept_that_is_not_in_the_file(bench):
    bench.save_adapter(make_adapter("sd15", "woman", "man"))
    error = bench.error(graph_with("test.safetensors", concept="old"))
    assert "test.safetensors has no concept 'old'. Its concepts are: woman, man" in error.message


def test_the_only_concept_of_several(bench):
    bench.save_adapter(make_adapter("sd15", "woman", "man"))
    error = bench.error(graph_with("test.safetensors", concept="(the only one)"))
    assert "several concepts. Choose one of them: woman, man" in error.message


@pytest.mark.parametrize("how", [{"strength": -0.5}, {"ram_strength": -1.0}, {"strength": -1.0, "sam_strength": 0.0}])
def test_a_safety_concept_turned_around(bench, how):
    bench.save_adapter(make_adapter("sd15", "woman", category="safety"))
    error = bench.error(graph_with("test.safetensors", **how))
    assert error.node_type == "RespoDiffSteer"
    assert error.exception_type == "respodiff.StrengthError"
    assert "safety concept" in error.message
    assert "0 or more" in error.message


def test_a_window_that_ends_before_it_starts(bench):
    bench.save_adapter(make_adapter("sd15"))
    error = bench.error(graph_with("test.safetensors", start_percent=0.8, end_percent=0.2))
    assert "from 0.8 to 0.2" in error.message


def test_a_lora_put_into_the_folder(bench):
    error = bench.error(graph_with(raw(bench, {"lora_unet_x.lora_up.weight": torch.zeros(2, 2)})))
    assert "Is it a LoRA" in error.message


def test_missing_metadata_falls_back_on_shapes_and_says_so(bench):
    name = raw(bench, {"woman.ram": torch.ones(320, 4, 4), "woman.sam": torch.ones(320, 4, 4)})
    graph = graph_with(name)
    assert torch.isfinite(bench.latent(graph)).all()
    assert f"{name}: The file has no RespoDiff metadata" in bench.server.log_text()


def test_a_strength_beyond_the_slider_is_rejected_before_anything_runs(bench):
    bench.save_adapter(make_adapter("sd15"))
    with pytest.raises(PromptRejected, match="strength"):
        bench.run(graph_with("test.safetensors", strength=5.0))
