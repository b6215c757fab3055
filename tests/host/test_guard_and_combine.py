"""Prompt Guard, Combine and Save in a graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, relative, sample, steer, tolerance
from comfy_graph import Graph, Link, output
from respodiff.respodiff_core.adapter.adapter import read


def guard(graph: Graph, prompt: str, *files: str, **more: Any) -> Link:
    """Prompt Guard; its outputs are ADAPTER, STEER, CONCEPTS, TEXT."""
    adapters = {f"adapters.adapter{n}": graph.add("RespoDiffLoadAdapter", adapter=file) for n, file in enumerate(files)}
    return graph.add("RespoDiffPromptGuard", prompt=prompt, **adapters, **more)


def verdict(bench: Bench, graph: Graph, node: Link) -> tuple[str, ...]:
    shown = [graph.add("PreviewAny", source=output(node, index)) for index in (1, 2, 3)]
    outputs = bench.run(graph).outputs
    return tuple(outputs[link[0]]["text"][0] for link in shown)


class TestPromptGuard:
    @pytest.fixture(autouse=True)
    def adapters(self, bench):
        people = {"category": "fairness", "neutral": "a person"}
        bench.save_adapter(make_adapter("sd15", "woman", "man", **people), "gender.safetensors")
        several = people | {"neutral": "a group of people"}
        bench.save_adapter(make_adapter("sd15", "women", "men", seed=9, **several), "crowd.safetensors")
        bench.save_adapter(make_adapter("sd15", "violence", category="safety"), "safety.safetensors")

    def latent(
        self, bench: Bench, prompt: str | None, file: str = "gender.safetensors", concept: str = "woman"
    ) -> torch.Tensor:
        graph = Graph()
        model = load_unet(graph, "sd15")
        if prompt is not None:
            model = steer(graph, model, guard(graph, prompt, file), concept)
        sample(graph, model, "sd15", seed=91)
        return bench.latent(graph)

    def test_a_prompt_that_names_a_group_is_left_as_it_is_bit_for_bit(self, bench):
        unsteered = self.latent(bench, None)
        assert torch.equal(self.latent(bench, "a photo of a male doctor"), unsteered)
        assert not torch.equal(self.latent(bench, "a photo of a doctor"), unsteered)

    def test_safety_steers_all_the_same(self, bench):
        named = self.latent(bench, "a male doctor", "safety.safetensors", "violence")
        assert not torch.equal(named, self.latent(bench, None))

    def test_it_says_what_it_found(self, bench):
        graph = Graph()
        assert verdict(bench, graph, guard(graph, "a male doctor", "gender.safetensors")) == (
            "False",
            "",
            "woman, man: the prompt says 'male'.",
        )
        graph = Graph()
        steers, concepts, text = verdict(bench, graph, guard(graph, "a doctor", "gender.safetensors"))
        assert (steers, concepts) == ("True", "woman, man")
        assert "names no group" in text

    def test_fair_batch_leaves_every_image_of_such_a_prompt_alone(self, bench):
        graph = Graph()
        adapter = guard(graph, "a male doctor", "gender.safetensors")
        groups = graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=1.0)
        fair = graph.add(
            "RespoDiffFairBatch",
            model=load_unet(graph, "sd15"),
            none_share=0.0,
            allocation="balanced",
            seed=0,
            batch_size=3,
            **{"groups.group0": groups},
        )
        shown = graph.add("PreviewAny", source=output(fair, 2))
        assert bench.run(graph).outputs[shown[0]]["text"][0].splitlines() == ["none"] * 3

    def test_words_choose_among_adapters(self, bench):
        for prompt, concepts in (("two doctors", "women, men"), ("a doctor", "woman, man")):
            graph = Graph()
            node = guard(graph, prompt, "gender.safetensors", "crowd.safetensors")
            assert verdict(bench, graph, node)[1] == concepts

    def test_the_graphs_text_encoder_chooses_where_connected(self, bench):
        """With random weights only this is sure: a prompt is most like itself."""
        for prompt, concepts in (("a group of people", "women, men"), ("a person", "woman, man")):
            graph = Graph()
            checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name="sd15.safetensors")
            node = guard(graph, prompt, "gender.safetensors", "crowd.safetensors", clip=output(checkpoint, 1))
            _, named, text = verdict(bench, graph, node)
            assert named == concepts
            assert "is the closest (similarity 1.00)" in text


class TestCombineAndSave:
    @pytest.fixture(autouse=True)
    def adapters(self, bench):
        bench.save_adapter(make_adapter("sd15", "woman", target="a woman"), "a.safetensors")
        bench.save_adapter(make_adapter("sd15", "old", seed=30), "b.safetensors")
        for file in bench.adapters.glob("mine/*"):
            file.unlink()

    def saved(self, strength_a: float = 1.0, strength_b: float = 1.0, as_one: str = "", **more: Any) -> Graph:
        graph = Graph()
        a, b = (graph.add("RespoDiffLoadAdapter", adapter=f"{name}.safetensors") for name in "ab")
        both = graph.add(
            "RespoDiffCombineAdapters",
            adapter_a=a,
            adapter_b=b,
            strength_a=strength_a,
            strength_b=strength_b,
            as_one=as_one,
        )
        settings = {"name": "mine/both", "overwrite": False, "dtype": "float32"} | more
        graph.add("RespoDiffSaveAdapter", adapter=both, **settings)
        return graph

    def test_side_by_side_at_new_strengths(self, bench):
        bench.run(self.saved(0.5, 2.0))
        both, a = read(bench.adapters / "mine" / "both.safetensors"), read(bench.adapters / "a.safetensors")
        assert list(both.concepts) == ["woman", "old"]
        assert both.concept("woman").info.target == "a woman"
        torch.testing.assert_close(both.concept("woman").ram.tensors[""], 0.5 * a.concept("woman").ram.tensors[""])

    def test_as_one_concept_that_steers_as_both_did(self, bench):
        bench.run(self.saved(0.5, 1.0, as_one="old woman"))

        def latent(*steps: tuple[str, str, float]) -> torch.Tensor:
            graph = Graph()
            model = load_unet(graph, "sd15")
            for file, concept, strength in steps:
                adapter = graph.add("RespoDiffLoadAdapter", adapter=file)
                model = steer(graph, model, adapter, concept, strength)
            sample(graph, model, "sd15")
            return bench.latent(graph)

        one = latent(("mine/both.safetensors", "old woman", 1.0))
        two = latent(("a.safetensors", "woman", 0.5), ("b.safetensors", "old", 1.0))
        assert relative(one, two) <= tolerance(bench, "sd15")

    def test_nothing_is_overwritten_without_being_told(self, bench):
        bench.run(self.saved())
        before = (bench.adapters / "mine" / "both.safetensors").read_bytes()
        bench.server.free_memory()
        bench.run(self.saved())  # the same again is no harm
        error = bench.error(self.saved(0.25))
        assert error.node_type == "RespoDiffSaveAdapter"
        assert "already exists with different content" in error.message
        assert (bench.adapters / "mine" / "both.safetensors").read_bytes() == before
        bench.run(self.saved(0.25, overwrite=True))
        assert (bench.adapters / "mine" / "both.safetensors").read_bytes() != before

    @pytest.mark.parametrize("name", ["../both", "/tmp/both", "", "mine/"])
    def test_no_file_outside_of_the_folder(self, bench, name):
        assert "is not a valid name for a file in" in bench.error(self.saved(name=name)).message

    def test_the_same_name_twice_is_said(self, bench):
        bench.save_adapter(make_adapter("sd15", "woman", seed=30), "b.safetensors")
        error = bench.error(self.saved())
        assert error.node_type == "RespoDiffCombineAdapters"
        assert "'woman', which another of these adapters also contains" in error.message


class TestConceptMixerTakesAnAdapter:
    def mixed(self, bench, strengths: str) -> Graph:
        bench.save_adapter(make_adapter("sd15", "woman", "man"))
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        model = load_unet(graph, "sd15")
        settings = {"adapter": "(none)", "computed": adapter, "computed_strengths": strengths}
        sample(graph, graph.add("RespoDiffConceptMixer", model=model, **settings), "sd15")
        return graph

    def test_at_the_strengths_of_its_lines(self, bench):
        mixed = bench.latent(self.mixed(bench, "woman = 0.5\n man= -1 \n"))
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        model = load_unet(graph, "sd15")
        for concept, strength in (("woman", 0.5), ("man", -1.0)):
            model = steer(graph, model, adapter, concept, strength)
        sample(graph, model, "sd15")
        assert torch.equal(mixed, bench.latent(graph))

    @pytest.mark.parametrize(
        ("strengths", "said"),
        [("woman", "as 'old = 0.5'"), ("old = 1", "has no concept 'old'"), ("= 1", "no concept ''")],
    )
    def test_other_lines_are_a_sentence(self, bench, strengths, said):
        assert said in bench.error(self.mixed(bench, strengths)).message
