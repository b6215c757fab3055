"""Fair Batch in a real ComfyUI: every image its own group, in one sampler call."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, relative, sample, steer, tolerance
from comfy_graph import Graph, Link, output
from PIL import Image
from respodiff.respodiff_core.steering.allocation import drawn
from respodiff.trainer.comfyui.client import PromptRejected

CONCEPTS = ("woman", "man", "other")


def groups(graph: Graph, concept: str = "(all of them)", file: str = "test.safetensors", **more: Any) -> Link:
    adapter = graph.add("RespoDiffLoadAdapter", adapter=file)
    settings = {"share": 1.0, "strength": 1.0} | more
    return graph.add("RespoDiffFairGroup", adapter=adapter, concept=concept, **settings)


def fair_batch(graph: Graph, model: Link, *connected: Link, **more: Any) -> Link:
    settings = {"none_share": 0.0, "allocation": "balanced", "seed": 3, "batch_size": 12} | more
    wired = {f"groups.group{number}": link for number, link in enumerate(connected)}
    return graph.add("RespoDiffFairBatch", model=model, **wired, **settings)


def names(bench: Bench, graph: Graph, fair: Link) -> list[str]:
    """The names that Fair Batch gives, with a run of the graph."""
    return ran(bench, graph, fair)[0]


def ran(bench: Bench, graph: Graph, fair: Link) -> tuple[list[str], dict[str, Any]]:
    """The names that Fair Batch gives and all outputs, from one run (older hosts leave out what was cached)."""
    shown = graph.add("PreviewAny", source=output(fair, 2))
    outputs = bench.run(graph).outputs
    return outputs[shown[0]]["text"][0].splitlines(), outputs


def sampled(bench: Bench, graph: Graph, fair: Link) -> tuple[list[str], torch.Tensor]:
    """The names that Fair Batch gives, and the latents sampled with them."""
    given, outputs = ran(bench, graph, fair)
    return given, bench.saved_latent(outputs[graph.id_of("SaveLatent")])


def steered_as(bench: Bench, family: str, name: str, image: int) -> torch.Tensor:
    """One image alone, of the noise it has in the batch, with its concept by Steer."""
    graph = Graph()
    model = load_unet(graph, family)
    model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"), name)
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=12)
    one = graph.add("LatentFromBatch", samples=empty, batch_index=image, length=1)
    sample(graph, model, family, latent_image=one)
    return bench.latent(graph)


def test_one_run_of_12_equals_the_12_single_concept_runs_image_by_image(bench, family):
    bench.save_adapter(make_adapter(family, *CONCEPTS))
    graph = Graph()
    fair = fair_batch(graph, load_unet(graph, family), groups(graph))
    sample(graph, fair, family, batch=12)
    given, batch = sampled(bench, graph, fair)
    assert Counter(given) == dict.fromkeys(CONCEPTS, 4)
    for image, name in enumerate(given):
        assert relative(batch[image : image + 1], steered_as(bench, family, name, image)) <= tolerance(bench, family)
    man = given.index("man")
    assert relative(batch[man : man + 1], steered_as(bench, family, "woman", man)) > 1e-3, "concepts must differ"


class TestShares:
    def given(self, bench: Bench, *connected: tuple[str, float], **more: Any) -> Counter[str]:
        graph = Graph()
        links = [groups(graph, concept, share=share) for concept, share in connected]
        fair = fair_batch(graph, load_unet(graph, "sd15"), *links, **more)
        return Counter(names(bench, graph, fair))

    def test_any_proportions_and_some_images_unsteered(self, bench):
        bench.save_adapter(make_adapter("sd15", *CONCEPTS))
        assert self.given(bench, ("woman", 2.0), ("man", 1.0), none_share=1.0) == {"woman": 6, "man": 3, "none": 3}

    def test_queued_again_and_again_with_one_image(self, bench):
        bench.save_adapter(make_adapter("sd15", *CONCEPTS))
        runs = [self.given(bench, ("(all of them)", 1.0), batch_size=1, seed=seed) for seed in range(20, 23)]
        assert sum(runs, Counter()) == dict.fromkeys(CONCEPTS, 1)

    def test_every_host_allocates_alike(self, bench):
        bench.save_adapter(make_adapter("sd15", *CONCEPTS))
        graph = Graph()
        fair = fair_batch(graph, load_unet(graph, "sd15"), groups(graph), allocation="random", seed=2**64 - 1)
        assert names(bench, graph, fair) == [CONCEPTS[number] for number in drawn([1, 1, 1], 12, 2**64 - 1)]

    def test_sixty_four_concepts(self, bench):
        bench.save_adapter(make_adapter("sd15", *(f"concept {i}" for i in range(64))))
        assert self.given(bench, ("(all of them)", 1.0), batch_size=64) == {f"concept {i}": 1 for i in range(64)}

    def test_the_connected_latent_says_how_many(self, bench):
        bench.save_adapter(make_adapter("sd15", *CONCEPTS))
        graph = Graph()
        latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=6)
        fair = fair_batch(graph, load_unet(graph, "sd15"), groups(graph), latent=latent, batch_size=4)
        assert len(names(bench, graph, fair)) == 6


def test_crossed_groups_add_both_at_the_scale_of_their_axis(bench):
    bench.save_adapter(make_adapter("sd15", "woman", "man"), "gender.safetensors")
    bench.save_adapter(make_adapter("sd15", "asian", "black", "white", seed=9), "race.safetensors")
    graph = Graph()
    both = graph.add(
        "RespoDiffCrossGroups",
        first=groups(graph, file="gender.safetensors"),
        second=groups(graph, file="race.safetensors"),
        first_scale=1.1,
        second_scale=0.9,
    )
    fair = fair_batch(graph, load_unet(graph, "sd15"), both, batch_size=6)
    sample(graph, fair, "sd15", batch=6)
    given, batch = sampled(bench, graph, fair)
    assert len(set(given)) == 6
    image = given.index("man + asian")
    alone = Graph()
    model = load_unet(alone, "sd15")
    for file, concept, scale in (("gender", "man", 1.1), ("race", "asian", 0.9)):
        adapter = alone.add("RespoDiffLoadAdapter", adapter=f"{file}.safetensors")
        model = steer(alone, model, adapter, concept, scale)
    sample(alone, model, "sd15", batch=6)
    assert relative(batch[image], bench.latent(alone)[image]) <= tolerance(bench, "sd15")


def test_with_safety_and_steer_in_any_order(bench):
    bench.save_adapter(make_adapter("sd15", *CONCEPTS))
    bench.save_adapter(make_adapter("sd15", "violence", "hate", seed=20, category="safety"), "safety.safetensors")

    def latent(*order: str) -> torch.Tensor:
        graph = Graph()
        model = load_unet(graph, "sd15")
        for node in order:
            if node == "fair":
                model = fair_batch(graph, model, groups(graph), batch_size=3)
            elif node == "safety":
                sliders = {"strength of violence": 1.0, "strength of hate": 0.5, "concepts": "violence | hate"}
                model = graph.add(
                    "RespoDiffSafety",
                    model=model,
                    adapter="safety.safetensors",
                    **{f"adapter.{name}": value for name, value in sliders.items()},
                )
            else:
                model = steer(graph, model, graph.add("RespoDiffLoadAdapter", adapter="test.safetensors"), "man", 0.5)
        sample(graph, model, "sd15", batch=3)
        return bench.latent(graph)

    first = latent("fair", "safety", "steer")
    for order in (("safety", "steer", "fair"), ("steer", "fair", "safety")):
        assert relative(latent(*order), first) <= tolerance(bench, "sd15")
    for part in (("fair", "safety"), ("fair", "steer"), ("safety", "steer")):
        assert relative(latent(*part), first) > 1e-3, "each part must act"


def test_names_go_into_file_names_and_png_metadata(bench):
    bench.save_adapter(make_adapter("sd15", "woman", "old man"))
    graph = Graph()
    fair = fair_batch(graph, load_unet(graph, "sd15"), groups(graph), batch_size=2)
    images = graph.add("EmptyImage", width=64, height=64, batch_size=2, color=0x8040C0)
    saver = graph.add("RespoDiffSaveImages", images=images, names=output(fair, 2), filename_prefix="fair/doctor")
    given, outputs = ran(bench, graph, fair)
    saved = outputs[saver[0]]["images"]
    for name, record in zip(given, saved, strict=True):
        assert record["filename"].startswith(f"doctor_{name.replace(' ', '-')}_0000")
        with Image.open(bench.server.output_path(record)) as picture:
            assert json.loads(picture.info["respodiff"]) == {"group": name}
            assert json.loads(picture.info["prompt"])[saver[0]]["class_type"] == "RespoDiffSaveImages"


def test_names_come_as_a_list_that_core_nodes_go_through(bench):
    bench.save_adapter(make_adapter("sd15", *CONCEPTS))
    graph = Graph()
    fair = fair_batch(graph, load_unet(graph, "sd15"), groups(graph), batch_size=3)
    shown = graph.add("PreviewAny", source=output(fair, 1))
    assert sorted(bench.run(graph).outputs[shown[0]]["text"]) == sorted(CONCEPTS)


class TestRefusals:
    @pytest.fixture(autouse=True)
    def adapter(self, bench):
        bench.save_adapter(make_adapter("sd15", *CONCEPTS))

    def graph(self, concept: str = "(all of them)", sampled: int = 12, share: float = 1.0, **more: Any) -> Graph:
        graph = Graph()
        fair = fair_batch(graph, load_unet(graph, "sd15"), groups(graph, concept, share=share), **more)
        sample(graph, fair, "sd15", batch=sampled, steps=1)
        return graph

    def test_no_group_connected(self, bench):
        graph = Graph()
        sample(graph, fair_batch(graph, load_unet(graph, "sd15")), "sd15", steps=1)
        with pytest.raises(PromptRejected, match=r"RespoDiffFairBatch: Required input is missing \(group0\)"):
            bench.run(graph)

    def test_all_shares_zero(self, bench):
        error = bench.error(self.graph(share=0.0))
        assert error.node_type == "RespoDiffFairBatch"
        assert "All shares are 0" in error.message

    def test_a_negative_share(self, bench):
        with pytest.raises(PromptRejected, match="smaller than min"):
            bench.run(self.graph(share=-1.0))

    @pytest.mark.parametrize("sampled", [1, 4, 13])
    def test_another_batch_size_than_sampled(self, bench, sampled):
        error = bench.error(self.graph(sampled=sampled))
        assert f"made for a batch of 12 images, but {sampled} are sampled" in error.message

    def test_a_concept_that_left_the_file_after_the_workflow_was_saved(self, bench):
        error = bench.error(self.graph(concept="old"))
        assert error.node_type == "RespoDiffFairGroup"
        assert "has no concept 'old'. Its concepts are: woman, man, other" in error.message

    def test_a_file_of_safety_concepts_alone(self, bench):
        bench.save_adapter(make_adapter("sd15", "violence", category="safety"))
        error = bench.error(self.graph())
        assert "use the Safety node" in error.message

    def test_an_adapter_of_another_family(self, bench):
        bench.save_adapter(make_adapter("sdxl"))
        error = bench.error(self.graph())
        assert error.node_type == "RespoDiffFairBatch"
        assert "made for Stable Diffusion XL, this model is Stable Diffusion 1.x" in error.message
