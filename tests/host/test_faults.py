"""A server that runs for days: interrupts, models that are unloaded, adapters that change or break between runs."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, sample, steer
from comfy_graph import Graph, Link
from respodiff.respodiff_core.adapter.adapter import to_bytes
from respodiff.trainer.comfyui.outputs import NodeError, PromptRejected
from safetensors.torch import save

_fresh = count()


def graph_of(model: Callable[[Graph], Link], family: str = "sd15", steps: int = 3, **sampling) -> Graph:
    """A graph that samples this model, and never one that the server has the result of already."""
    graph = Graph()
    counted = graph.add("ProbeSteps", model=model(graph), name=f"run{next(_fresh)}")
    sample(graph, counted, family, steps=steps, **sampling)
    return graph


def latent(bench: Bench, model: Callable[[Graph], Link], family: str = "sd15", **sampling) -> torch.Tensor:
    return bench.latent(graph_of(model, family, **sampling))


def unsteered(graph: Graph) -> Link:
    return load_unet(graph, "sd15")


def steered(graph: Graph, file: str = "test.safetensors", concept: str = "woman", **how) -> Link:
    return steer(graph, load_unet(graph, "sd15"), graph.add("RespoDiffLoadAdapter", adapter=file), concept, **how)


def steered_in_a_window(graph: Graph) -> Link:
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    model = steer(graph, load_unet(graph, "sd15"), adapter, start_percent=0.1, end_percent=0.9, curve="fade in")
    return steer(graph, model, adapter, strength=-0.5, prompt="both")


def fair(graph: Graph) -> Link:
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    group = graph.add("RespoDiffFairGroup", adapter=adapter, concept="woman", share=1.0, strength=1.0)
    settings = {"none_share": 1.0, "allocation": "balanced", "seed": 0, "batch_size": 2, "groups.group0": group}
    return graph.add("RespoDiffFairBatch", model=load_unet(graph, "sd15"), **settings)


class TestInterrupt:
    """In the middle of sampling, as the page's red button does."""

    STEPS = 5

    @pytest.mark.parametrize(("model", "images"), [(steered, 1), (steered_in_a_window, 1), (fair, 2)])
    def test_leaves_nothing_behind(self, bench, model, images):
        bench.save_adapter(make_adapter("sd15"))
        batch = {"steps": self.STEPS, "batch": images, "seed": 1}
        plain, whole = latent(bench, unsteered, **batch), latent(bench, model, **batch)
        assert not torch.equal(plain, whole)
        self.interrupt(bench, graph_of(model, **batch))
        assert torch.equal(latent(bench, model, **batch), whole)
        assert torch.equal(latent(bench, unsteered, **batch), plain)

    def test_of_the_unsteered_model_leaves_steering_as_it_is(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        whole = latent(bench, steered, steps=self.STEPS)
        self.interrupt(bench, graph_of(unsteered, steps=self.STEPS))
        assert torch.equal(latent(bench, steered, steps=self.STEPS), whole)

    def test_lets_go_of_the_run(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        self.interrupt(bench, graph_of(steered, steps=self.STEPS))
        graph = Graph()
        alive = graph.add("ProbeAlive", class_name="_Run")
        assert bench.run(graph).outputs[alive[0]]["text"] == ["0"]

    def interrupt(self, bench: Bench, graph: Graph) -> None:
        assert bench.interrupt_midway(graph) < self.STEPS


class TestUnloading:
    def test_between_runs_changes_nothing(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        before = self.latents(bench)
        for results in (False, True):
            bench.server.free_memory(results)
            assert all(map(torch.equal, before, self.latents(bench)))

    def latents(self, bench: Bench) -> list[torch.Tensor]:
        return [latent(bench, model, steps=1, batch=2) for model in (fair, unsteered)]

    def test_in_the_middle_of_a_graph_changes_nothing(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        expected = latent(bench, steered, steps=2)
        graph = Graph()
        model = steered(graph)
        first = sample(graph, graph.add("ProbeUnload", model=model), "sd15", steps=1)
        again = graph.add("ProbeUnload", model=model, after=first)
        sample(graph, again, "sd15", steps=2)
        outputs = bench.run(graph).outputs
        last = max(outputs, key=int)
        assert torch.equal(bench.saved_latent(outputs[last]), expected)

    def test_two_families_in_turns_do_not_mix(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        bench.save_adapter(make_adapter("sdxl"), "xl.safetensors")

        def steered_xl(graph: Graph) -> Link:
            adapter = graph.add("RespoDiffLoadAdapter", adapter="xl.safetensors")
            return steer(graph, load_unet(graph, "sdxl"), adapter)

        turns = [(steered, "sd15"), (steered_xl, "sdxl")]
        first = [latent(bench, model, family, steps=1) for model, family in turns]
        bench.server.post_json("/free", {"unload_models": True})
        again = [latent(bench, model, family, steps=1) for model, family in reversed(turns)]
        assert all(map(torch.equal, first, reversed(again)))


def with_metadata(content: bytes, **metadata: str) -> bytes:
    """A safetensors file with these entries in its metadata as well."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"].update(metadata)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


class TestAdapterThatChanges:
    """The file of a graph that has run already."""

    FILE = "changing.safetensors"

    @pytest.fixture(autouse=True)
    def whole(self, bench):
        """A good run before, and a good one of the same file after."""
        adapter = make_adapter("sd15")
        bench.save_adapter(adapter, self.FILE)
        before = self.latent(bench)
        yield to_bytes(adapter)
        (bench.adapters / self.FILE).unlink(missing_ok=True)
        bench.save_adapter(adapter, self.FILE)
        assert torch.equal(self.latent(bench), before)

    def latent(self, bench: Bench) -> torch.Tensor:
        return latent(bench, lambda graph: steered(graph, self.FILE), steps=1)

    def refusals(self, bench: Bench) -> list[NodeError]:
        """By Load Adapter, and by the Concept Mixer that has its sliders."""
        models = (lambda graph: steered(graph, self.FILE), self.mixed)
        return [bench.error(graph_of(model, steps=1)) for model in models]

    def mixed(self, graph: Graph) -> Link:
        sliders = {"adapter": self.FILE, "adapter.concepts": "woman", "adapter.strength of woman": 1.0}
        return graph.add("RespoDiffConceptMixer", model=load_unet(graph, "sd15"), **sliders)

    def put(self, bench: Bench, content: bytes) -> Path:
        path = bench.adapters / self.FILE
        path.write_bytes(content)
        return path

    def check_page(self, bench: Bench) -> None:
        """The page still gets all nodes."""
        for node in ("RespoDiffConceptMixer", "RespoDiffSteer", "RespoDiffLoadAdapter"):
            assert bench.server.get_json(f"/object_info/{node}")[node]["input"]

    def test_deleted(self, bench):
        (bench.adapters / self.FILE).unlink()
        loading, mixing = self.refusals(bench)
        assert loading.node_type == "RespoDiffLoadAdapter"
        assert f"There is no adapter '{self.FILE}'" in loading.message
        assert "not in models/respodiff" in mixing.message
        self.check_page(bench)

    def test_replaced_by_another_strength_or_concept(self, bench):
        bench.save_adapter(make_adapter("sd15", strength=0.5), self.FILE)
        half = self.latent(bench)
        bench.save_adapter(make_adapter("sd15"), "steady.safetensors")
        assert torch.equal(
            half, latent(bench, lambda graph: steered(graph, "steady.safetensors", strength=0.5), steps=1)
        )
        bench.save_adapter(make_adapter("sd15", "old"), self.FILE)
        error = bench.error(graph_of(lambda graph: steered(graph, self.FILE)))
        assert "has no concept 'woman'. Its concepts are: old" in error.message
        with pytest.raises(PromptRejected, match=r"Required input is missing \(strength of old\)"):
            bench.run(graph_of(self.mixed))

    @pytest.mark.parametrize("damage", ["text", "half", "header alone", "pickle", "nan", "much metadata"])
    def test_replaced_by_what_is_no_adapter(self, bench, whole, damage):
        nan = torch.full((320, 4, 4), float("nan"))
        content, says = {
            "text": (b"<html>not found</html>" * 9, "is not a whole safetensors file"),
            "half": (whole[: len(whole) // 2], "is not a whole safetensors file"),
            "header alone": (whole[: 8 + int.from_bytes(whole[:8], "little")], "is not a whole safetensors file"),
            "pickle": (pickle.dumps({"woman.ram": [0.0] * 999}), "is not a whole safetensors file"),
            "nan": (save({"woman.ram": nan, "woman.sam": nan.clone()}), "contains NaN or infinite values"),
            "much metadata": (with_metadata(whole, rubbish="x" * 50_000_000), self.FILE),
        }[damage]
        self.put(bench, content)
        refusals = self.refusals(bench)
        assert says in refusals[0].message
        for error in refusals:
            assert error.exception_type.startswith("respodiff.")
            assert len(error.message) < 500
        self.check_page(bench)

    @pytest.mark.parametrize("target", ["pickle.safetensors", "nowhere.safetensors", ".", "changing.safetensors"])
    def test_replaced_by_a_link_to_what_is_no_adapter(self, bench, tmp_path, target):
        (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"woman.ram": [0.0] * 999}))
        path = bench.adapters / self.FILE
        path.unlink()
        path.symlink_to(path if target == self.FILE else tmp_path / target)
        loading, mixing = self.refusals(bench)
        says = "is not a whole safetensors file" if "pickle" in target else f"There is no adapter '{self.FILE}'"
        assert says in loading.message
        assert "not in models/respodiff" in mixing.message
        self.check_page(bench)

    def test_replaced_by_a_pipe_which_would_never_end(self, bench):
        path = bench.adapters / self.FILE
        path.unlink()
        os.mkfifo(path)
        loading, _ = self.refusals(bench)
        assert f"There is no adapter '{self.FILE}'" in loading.message
        self.check_page(bench)

    def test_a_link_to_an_adapter_elsewhere_is_followed(self, bench, whole, tmp_path):
        before = self.latent(bench)
        path = bench.adapters / self.FILE
        path.unlink()
        (tmp_path / "elsewhere.safetensors").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere.safetensors")
        assert torch.equal(self.latent(bench), before)
