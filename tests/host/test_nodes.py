"""The nodes as the page sees them and as graphs use them."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, sample, steer
from comfy_graph import Graph, output
from node_reference import PAGE, reference
from node_texts import read, texts_of
from respodiff.respodiff_core.adapter.adapter import write
from respodiff.trainer.comfyui.outputs import NodeFailed
from respodiff.trainer.comfyui.server import PACK_NAME

NODES = sorted(read("en"))


def info(bench: Bench, node: str) -> dict:
    return bench.server.get_json(f"/object_info/{node}")[node]


def inputs_of(node_info: dict) -> dict:
    return node_info["input"]["required"] | node_info["input"].get("optional", {})


@pytest.mark.parametrize("node", NODES)
def test_every_node_explains_itself(bench, node):
    described = info(bench, node)
    assert described["category"] == "RespoDiff"
    assert len(described["description"]) > 40
    assert "respodiff" in described["search_aliases"]
    for name, (_, options) in inputs_of(described).items():
        assert options.get("tooltip"), f"{node}.{name} has no tooltip"


def test_the_english_texts_for_the_page_are_the_nodes_own(bench):
    """After a change: PYTHONPATH=tests python tools/node_texts.py, then the translations."""
    described = bench.server.get_json("/object_info")
    assert texts_of(described) == read("en")


def test_the_reference_in_the_docs_is_the_nodes_own(bench):
    """After a change: PYTHONPATH=tests python tools/node_reference.py."""
    assert reference(bench.server.get_json("/object_info")) == PAGE.read_text("utf-8")


def test_the_slider_is_as_artists_expect(bench):
    kind, options = inputs_of(info(bench, "RespoDiffSteer"))["strength"]
    assert kind == "FLOAT"
    assert (options["min"], options["max"], options["step"], options["default"]) == (-2.0, 2.0, 0.01, 1.0)
    assert options["display"] == "slider"
    advanced = {name for name, (_, o) in inputs_of(info(bench, "RespoDiffSteer")).items() if o.get("advanced")}
    assert advanced == {"ram_strength", "sam_strength", "start_percent", "end_percent", "prompt", "curve", "gate"}


def test_the_pack_loads_and_needs_nothing(bench):
    folder = bench.server.base_directory / "custom_nodes" / PACK_NAME
    (line,) = (line for line in bench.server.log_text().splitlines() if line.endswith(str(folder)))
    assert "IMPORT FAILED" not in line
    assert "seconds" in line


class TestLoadAdapter:
    def test_lists_adapters_only_from_both_model_folders(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        (bench.adapters / "notes.txt").write_text("not an adapter")
        shared = bench.server.base_directory / "shared" / "respodiff"
        write(make_adapter("sd15"), shared / "from_extra_paths.safetensors")
        options = inputs_of(info(bench, "RespoDiffLoadAdapter"))["adapter"][1]["options"]
        assert {"test.safetensors", "from_extra_paths.safetensors"} <= set(options)
        assert "notes.txt" not in options

    def test_a_file_trained_again_in_place_is_read_again(self, bench):
        def run() -> torch.Tensor:
            graph = Graph()
            adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
            sample(graph, steer(graph, load_unet(graph, "sd15"), adapter), "sd15", seed=41)
            return bench.latent(graph)

        bench.save_adapter(make_adapter("sd15", seed=1))
        first = run()
        bench.save_adapter(make_adapter("sd15", seed=50))
        assert not torch.equal(run(), first)

    def test_an_unchanged_file_is_not_read_again(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        sample(graph, steer(graph, load_unet(graph, "sd15"), adapter), "sd15", seed=42)
        bench.run(graph)
        graph["99"] = {"class_type": "RespoDiffInspectAdapter", "inputs": {"adapter": adapter}}
        assert adapter[0] in bench.run(graph).cached

    def test_files_in_subfolders_are_found(self, bench):
        (bench.adapters / "gender").mkdir(exist_ok=True)
        bench.save_adapter(make_adapter("sd15"), os.path.join("gender", "woman.safetensors"))
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter=os.path.join("gender", "woman.safetensors"))
        sample(graph, steer(graph, load_unet(graph, "sd15"), adapter, "(the only one)"), "sd15")
        assert torch.isfinite(bench.latent(graph)).all()


class TestConceptMixer:
    def mixed(self, bench: Bench, **strengths: float) -> torch.Tensor:
        graph = Graph()
        sliders = {f"adapter.strength of {name}": strength for name, strength in strengths.items()}
        sliders["adapter.concepts"] = " | ".join(strengths)
        mixer = graph.add(
            "RespoDiffConceptMixer", model=load_unet(graph, "sd15"), adapter="test.safetensors", **sliders
        )
        sample(graph, mixer, "sd15")
        return bench.latent(graph)

    def test_is_the_same_as_chained_steer_nodes(self, bench):
        bench.save_adapter(make_adapter("sd15", "a", "b", "c"))
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        model = steer(graph, load_unet(graph, "sd15"), adapter, "a", 0.5)
        model = steer(graph, model, adapter, "c", -1.0)
        sample(graph, model, "sd15")
        chained = bench.latent(graph)
        assert torch.equal(self.mixed(bench, a=0.5, b=0.0, c=-1.0), chained)

    def test_all_sliders_at_zero_change_nothing(self, bench):
        bench.save_adapter(make_adapter("sd15", "a", "b"))
        graph = Graph()
        sample(graph, load_unet(graph, "sd15"), "sd15")
        assert torch.equal(self.mixed(bench, a=0.0, b=0.0), bench.latent(graph))

    def test_offers_one_slider_per_concept_of_each_file(self, bench):
        bench.save_adapter(make_adapter("sd15", "woman", "man"), "gender.safetensors")
        bench.save_adapter(make_adapter("sd15", "violence", category="safety"), "safety.safetensors")
        kind, options = inputs_of(info(bench, "RespoDiffConceptMixer"))["adapter"]
        assert kind == "COMFY_DYNAMICCOMBO_V3"
        sliders = {option["key"]: option["inputs"]["required"] for option in options["options"]}
        assert list(sliders["gender.safetensors"]) == ["concepts", "strength of woman", "strength of man"]
        assert sliders["gender.safetensors"]["strength of woman"][1]["min"] == -2.0
        assert sliders["safety.safetensors"]["strength of violence"][1]["min"] == 0.0

    def test_values_set_for_other_concepts_are_refused(self, bench):
        bench.save_adapter(make_adapter("sd15", "b", "a"))
        with pytest.raises(NodeFailed, match=r"other concepts \(b \| a\) than when this node was set up \(a \| b\)"):
            self.mixed(bench, a=0.5, b=0.0)

    def test_a_damaged_file_does_not_take_the_others_away(self, bench):
        bench.save_adapter(make_adapter("sd15"))
        (bench.adapters / "broken.safetensors").write_bytes(b"broken")
        keys = [o["key"] for o in inputs_of(info(bench, "RespoDiffConceptMixer"))["adapter"][1]["options"]]
        assert "test.safetensors" in keys
        assert "broken.safetensors" not in keys

    def test_a_file_that_went_away_after_saving_the_workflow_is_explained(self, bench):
        graph = Graph()
        mixer = graph.add(
            "RespoDiffConceptMixer",
            model=load_unet(graph, "sd15"),
            adapter="gone.safetensors",
            **{"adapter.strength of woman": 1.0},
        )
        sample(graph, mixer, "sd15")
        error = bench.error(graph)
        assert error.node_type == "RespoDiffConceptMixer"
        assert "not in models/respodiff" in error.message

    def test_a_file_trained_again_in_place_is_read_again(self, bench):
        bench.save_adapter(make_adapter("sd15", "a", seed=1))
        first = self.mixed(bench, a=1.0)
        bench.save_adapter(make_adapter("sd15", "a", seed=60))
        assert not torch.equal(self.mixed(bench, a=1.0), first)


class TestInspectAdapter:
    def test_shows_text_and_a_picture(self, bench, tmp_path):
        adapter = make_adapter("sd15", "woman", "man", category="fairness", target="a person", neutral="a person")
        bench.save_adapter(adapter)
        graph = Graph()
        inspect = graph.add(
            "RespoDiffInspectAdapter", adapter=graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        )
        graph.add("SaveImage", images=output(inspect, 1), filename_prefix="inspect")
        outputs = bench.run(graph).outputs
        (text,) = outputs[inspect[0]]["text"]
        assert "Stable Diffusion 1.x, 2 concepts" in text
        (saved,) = outputs[graph.id_of("SaveImage")]["images"]
        picture = bench.server.output_path(saved)
        assert picture.stat().st_size > 5000
        keep = os.environ.get("RESPODIFF_ARTEFACTS")
        if keep:
            shutil.copy(picture, os.path.join(keep, "inspect.png"))
