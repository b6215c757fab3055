"""Train Concept in a real ComfyUI: the adapter that the command line trains, on the model as it is loaded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_bench import Bench, load_unet, relative, sample, steer
from comfy_graph import Graph, Link, output
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run.training import train
from respodiff.trainer.toyworld import TOYWORLD
from respodiff.trainer.toyworld.host import ToyWorldInComfyUI
from toyworld_graph import empty, load_toyworld, sampled, toyworld_clip, toyworld_vae
from training_graph import (
    SQUARE,
    check_training,
    distance,
    patched,
    saved,
    small_model,
    states,
    trained_on_small,
    trained_on_toyworld,
)

BIG = [("sd15_wide", "FreeU"), ("sdxl", "v-prediction")]
PROBES = Path(__file__).parent / "probe_nodes"


@pytest.fixture(scope="module")
def toyworld(host, tmp_path_factory) -> Iterator[Bench]:
    server = ToyWorldInComfyUI(host, tmp_path_factory.mktemp("toyworld"))
    server.link_node_pack(PROBES, "probe_nodes")
    with server:
        yield Bench(server)


def square(graph: Graph, steps: int = 12, **more: Any) -> Link:
    return trained_on_toyworld(graph, load_toyworld(graph), steps, **more)


def test_it_is_the_adapter_that_the_command_line_trains(toyworld, tmp_path):
    graph = Graph()
    found = saved(toyworld, graph, square(graph, steps=40), "square")
    recipe = {
        "base": TOYWORLD,
        "output": str(tmp_path / "square.safetensors"),
        "concepts": [{"preset": "toyworld/square", "steps": 40}],
        "training": {"device": "cpu"},
        "saving": {"tensorboard": False},
    }
    expected = read(train(Recipe.of(recipe)))
    assert distance(found, expected) < 1e-5
    one, other = found.concepts["square"].info, expected.concepts["square"].info
    differing = {"base_model", "base_sha256", "tool"}  # ToyWorld's loader is no checkpoint loader
    assert {k: v for k, v in one.training.items() if k not in differing} == {
        k: v for k, v in other.training.items() if k not in differing
    }
    assert (one.target, one.neutral, one.axis, one.latent_height) == (other.target, other.neutral, "shape", 16)


def test_five_evaluations_of_the_unet_a_sample(toyworld):
    """As many as the command line's: encoder, decoder and backward passes count as half an evaluation each."""
    counts = []
    for steps in (4, 12):
        graph = Graph()
        model = graph.add("ProbeCount", model=load_toyworld(graph))
        # Without previews in between; the first trajectories are the same in both.
        adapter = trained_on_toyworld(graph, model, steps, training_seed=steps)
        graph.add("ProbeCounted", after=adapter)
        counts.append(sum(json.loads(toyworld.run(graph).outputs[graph.id_of("ProbeCounted")]["text"][0])) / 2)
    assert (counts[1] - counts[0]) / (8 * 4) == 5.0


class TestAnInterruptedTraining:
    def test_goes_on_where_it_was(self, toyworld):
        """At any moment, the first trajectories included; the result is that of a training in one go."""
        graph = Graph()
        whole = saved(toyworld, graph, square(graph, steps=30, training_seed=3), "whole")
        graph = Graph()
        adapter = square(graph, steps=30, training_seed=3, words={**SQUARE, "name": "parts"})
        graph.add("RespoDiffSaveAdapter", adapter=adapter, name="parts", dtype="float32", overwrite=True)
        for pause in (0.05, 0.5, 0.8, 0.3):
            prompt = toyworld.server.queue(graph)
            time.sleep(pause)
            toyworld.server.interrupt()
            toyworld.server.wait(prompt)
        toyworld.run(graph)
        parts = read(toyworld.adapters / "parts.safetensors")
        for role in ("ram", "sam"):
            one, other = getattr(parts.concepts["parts"], role), getattr(whole.concepts["square"], role)
            assert torch.equal(one.tensors[""], other.tensors[""])

    def test_more_steps_are_added_to_a_finished_one(self, toyworld):
        graph = Graph()
        graph.add("RespoDiffInspectAdapter", adapter=square(graph, steps=8, training_seed=5))
        toyworld.run(graph)
        graph = Graph()
        graph.add("ProbeCounted", after=trained_on_toyworld(graph, counted(graph), 12, training_seed=5))
        more = passes(toyworld, graph)
        graph = Graph()
        graph.add("ProbeCounted", after=trained_on_toyworld(graph, counted(graph), 12, training_seed=5, batch_size=2))
        assert more < passes(toyworld, graph)
        assert len(states(toyworld)[1]["losses"]) == 12

    def test_another_model_starts_anew(self, toyworld):
        found = []
        for kind in ("plain", "v-prediction", "plain"):
            graph = Graph()
            model = patched(graph, kind, load_toyworld(graph))
            found.append(saved(toyworld, graph, trained_on_toyworld(graph, model, 2, training_seed=9), "which"))
        assert distance(found[0], found[1]) > 1e-3
        assert distance(found[0], found[2]) == 0


def counted(graph: Graph) -> Link:
    return graph.add("ProbeCount", model=load_toyworld(graph))


def passes(bench: Bench, graph: Graph) -> float:
    found: list[int] = json.loads(bench.run(graph).outputs[graph.id_of("ProbeCounted")]["text"][0])
    return sum(found) / 2


@pytest.mark.parametrize(
    ("family", "kind"),
    [*(("sd15", kind) for kind in ("LoRA", "zero SNR", "fp8", "deep shrink")), *BIG],
)
def test_the_two_halves_of_the_unet_are_the_whole(bench, family, kind):
    graph = Graph()
    clip = graph.add("ProbeClip", family=family.partition("_")[0])
    graph.add("ProbeHalves", model=small_model(graph, kind, family), clip=clip)
    found = json.loads(bench.run(graph).outputs[graph.id_of("ProbeHalves")]["text"][0])
    assert max(found[t] for t in ("1", "500", "999", "rows")) < 1e-5
    assert found["checkpointing"] < 1e-6
    assert found["gradient"] < 1e-2


def test_it_trains_on_the_model_as_it_is(bench):
    """With a LoRA; tests/endurance has every kind of model."""
    kind = "LoRA"
    assert check_training(bench, kind, "sd15") < 0.97

    def latent(strength: float) -> torch.Tensor:
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter=f"{kind}.safetensors")
        sample(graph, steer(graph, small_model(graph, kind, "sd15"), adapter, "square", strength), "sd15")
        return bench.latent(graph)

    assert relative(latent(1.0), latent(0.0)) > 1e-2


def test_two_trainings_and_a_sampling_in_one_graph(toyworld):
    def graph_of(*seeds: int) -> Graph:
        graph = Graph()
        model = load_toyworld(graph)
        for seed in seeds:
            graph.add("RespoDiffInspectAdapter", adapter=trained_on_toyworld(graph, model, 3, training_seed=seed))
        latent = sampled(graph, model, "a photo of a doctor", empty(graph), steps=4)
        graph.add("SaveLatent", samples=latent, filename_prefix="beside")
        return graph

    beside = toyworld.latent(graph_of(20, 21))
    toyworld.server.free_memory()
    assert torch.equal(toyworld.latent(graph_of()), beside)


def test_it_starts_from_an_earlier_adapter(toyworld):
    graph = Graph()
    first = saved(toyworld, graph, square(graph, steps=20), "first")
    graph = Graph()
    start = graph.add("RespoDiffLoadAdapter", adapter="first.safetensors")
    second = saved(toyworld, graph, square(graph, steps=1, start_from=start), "second")
    assert 0 < distance(second, first) < 0.2
    graph = Graph()
    instant = {"groups": "round: round\nsquare: square", "neutral": "", "contexts": "a {} person", "axis": "shape"}
    computed = graph.add(
        "RespoDiffInstantConcept",
        model=load_toyworld(graph),
        clip=toyworld_clip(graph),
        **instant,
        category="fairness",
        seeds=1,
        steps=2,
        first_seed=0,
    )
    graph.add("RespoDiffInspectAdapter", adapter=square(graph, start_from=computed))
    assert "'square' of Instant Concept was computed, not trained" in toyworld.error(graph).message


def test_the_images_show_the_losses_and_the_preview(toyworld):
    graph = Graph()
    adapter = square(graph, steps=4, vae=toyworld_vae(graph))
    shown = [output(adapter, 1), output(adapter, 2), output(square(graph, steps=4), 2)]
    saving = [graph.add("SaveImage", images=images, filename_prefix="shown") for images in shown]
    outputs = toyworld.run(graph).outputs
    files = [toyworld.server.output_path(outputs[node]["images"][0]) for node, _ in saving]
    images = [Image.open(file).convert("RGB") for file in files]
    assert images[0].size == (880, 480)
    assert all(image.width > 3 * 64 and len(image.getcolors(1 << 20)) > 100 for image in images)


def test_nan_is_a_sentence_and_is_not_saved(bench):
    graph = Graph()
    model = graph.add("ProbeNaN", model=load_unet(graph, "sd15"), calls=40)
    adapter = trained_on_small(graph, model, "sd15", steps=40, training_seed=11)
    graph.add("RespoDiffInspectAdapter", adapter=adapter)
    message = bench.error(graph).message
    assert "Training of 'square' diverged" in message or "Training diverged" in message
    assert "Lower ram_rate and sam_rate" in message
    for state in states(bench):
        assert all(bool(tensor.isfinite().all()) for tensor in state.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"target": "", "negative": ""}, "it has no prompts: set target (to steer towards) or negative"),
        ({"neutral": ""}, "there is no neutral prompt"),
        ({"name": ""}, "A concept name must have 1 to 64 characters"),
        ({"name": "a/b"}, "is not allowed in names"),
    ],
)
def test_bad_words_are_a_sentence(bench, words, said):
    graph = Graph()
    adapter = trained_on_small(graph, load_unet(graph, "sd15"), "sd15", words={**SQUARE, **words})
    graph.add("RespoDiffInspectAdapter", adapter=adapter)
    assert said in bench.error(graph).message


def test_a_model_of_flow_matching_is_refused(bench):
    graph = Graph()
    adapter = trained_on_small(graph, small_model(graph, "flow", "sd15"), "sd15")
    graph.add("RespoDiffInspectAdapter", adapter=adapter)
    assert "sampled by flow matching" in bench.error(graph).message


def test_a_preset_trains_with_the_text_encoder_of_a_checkpoint(bench):
    graph = Graph()
    loaded = graph.add("CheckpointLoaderSimple", ckpt_name="sd15.safetensors")
    latent = graph.add("EmptyLatentImage", width=32, height=32, batch_size=1)
    adapter = graph.add(
        "RespoDiffTrainConcept",
        model=loaded,
        clip=output(loaded, 1),
        latent=latent,
        concept="gender/woman",
        steps=2,
        training_seed=0,
        batch_size=2,
        checkpointing="on",
        preview_prompt="a photo of a doctor",
        preview_every=0,
    )
    found = saved(bench, graph, adapter, "preset").concepts["woman"]
    assert (found.info.target, found.info.axis) == ("a woman", "gender")
    assert found.info.training["base_model"] == "sd15"
    assert len(found.info.training["base_sha256"]) == 64
