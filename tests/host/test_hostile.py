"""Workflows and adapters of strangers: names that lead elsewhere, texts that are more than text, NaN."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import rewrite_metadata
from comfy_bench import Bench, load_unet, make_adapter, sample, steer
from comfy_graph import Graph, Link, output
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.trainer.comfyui.client import PromptRejected
from respodiff.trainer.comfyui.outputs import NodeError

ESCAPE, BELL, OVERRIDE, LONE = "\x1b[2J\x1b]0;pwned", "\x07", "\u202e", "\ud800"
PAGE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
HOSTILE_TEXT = f"nice{ESCAPE}{BELL}{OVERRIDE}\r\n[ERROR] a line of its own\u2028{PAGE}"

# Each leads to, or would write, a file outside of the folder, or cannot be shown.
NAMES = {
    "up": "../outside.safetensors",
    "up and down": "sub/../../outside.safetensors",
    "up twice": "../../outside.safetensors",
    "windows": "..\\outside.safetensors",
    "absolute": "{base}/outside.safetensors",
    "nul": "fine.safetensors\0.png",
    "nul and up": "fine.safetensors\0/../../outside.safetensors",
    "escape": f"{ESCAPE}fine.safetensors",
    "line": "fine\n[ERROR] a line of its own.safetensors",
    "override": f"{OVERRIDE}srosnetefas.enif",
    "lone surrogate": f"{LONE}fine.safetensors",
    "long": "x" * 10_000,
    "deep": "x/" * 5_000 + "x",
    "html": PAGE,
}

_fresh = count()  # an older host leaves what it has computed already out of a run's outputs


@pytest.fixture(scope="module", autouse=True)
def adapters(bench) -> None:
    bench.save_adapter(make_adapter("sd15"), "fine.safetensors")
    for folder in (bench.server.base_directory, bench.server.base_directory / "models"):
        write(make_adapter("sd15"), folder / "outside.safetensors")


@pytest.fixture(autouse=True)
def server_stays_as_it_is(bench) -> Iterator[None]:
    """Whatever was asked: no file outside of the output folder is new or changed, the log is clean, the server runs."""
    base = bench.server.base_directory
    before, logged = files(base), len(bench.server.log_text())
    yield
    assert files(base) == before
    log = bench.server.log_text()[logged:]
    assert not [character for character in (BELL, OVERRIDE, "\x1b[2J", "\x1b]") if character in log]
    assert not [line for line in log.splitlines() if line.startswith("[ERROR] a line of its own")]
    graph = Graph()
    sample(graph, fine(graph), "sd15", steps=1, seed=next(_fresh))
    assert torch.isfinite(bench.latent(graph)).all()


def files(base: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, but those that the host keeps itself and what nodes are meant to write."""
    own = ("output", "temp", "user", "server.log")
    stats = {path: path.lstat() for path in sorted(base.rglob("*")) if path.relative_to(base).parts[0] not in own}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items() if not path.is_dir()}


def fine(graph: Graph, **how: Any) -> Link:
    adapter = graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors")
    return steer(graph, load_unet(graph, "sd15"), adapter, **how)


def refused(bench: Bench, graph: Graph) -> NodeError:
    """In a sentence of ours that can be read at a glance."""
    error = bench.error(graph)
    assert error.exception_type.startswith("respodiff."), error.message
    assert len(error.message) < 1000
    assert error.message.isprintable()
    return error


@pytest.fixture
def names(bench) -> list[str]:
    return [name.replace("{base}", str(bench.server.base_directory)) for name in NAMES.values()]


class TestNames:
    """Each of them refused, in the place of every name that a workflow holds."""

    def test_of_the_adapter_to_load(self, bench, names):
        for name in names:
            graph = Graph()
            graph.add("RespoDiffInspectAdapter", adapter=graph.add("RespoDiffLoadAdapter", adapter=name))
            assert "There is no adapter " in refused(bench, graph).message

    @pytest.mark.parametrize("node", ["RespoDiffConceptMixer", "RespoDiffSafety"])
    def test_of_the_file_with_sliders(self, bench, names, node):
        for name in names:
            graph = Graph()
            sliders = {"adapter.concepts": name, "adapter.strength of woman": 1.0}
            graph.add("ProbeDescribe", model=graph.add(node, model=load_unet(graph, "sd15"), adapter=name, **sliders))
            assert "is not in models/respodiff" in refused(bench, graph).message

    def test_of_the_concepts_with_sliders(self, bench, names):
        for name in names:
            graph = Graph()
            sliders = {"adapter": "fine.safetensors", "adapter.concepts": name, "adapter.strength of woman": 1.0}
            mixer = graph.add("RespoDiffConceptMixer", model=load_unet(graph, "sd15"), **sliders)
            graph.add("ProbeDescribe", model=mixer)
            assert "contains other concepts (woman) than when this node was set" in refused(bench, graph).message

    def test_of_the_concept(self, bench, names):
        for name in names:
            graph = Graph()
            graph.add("ProbeDescribe", model=fine(graph, concept=name))
            message = refused(bench, graph).message
            assert "fine.safetensors has no concept" in message
            assert "Its concepts are: woman" in message

    def test_of_the_group(self, bench, names):
        for name in names:
            graph = Graph()
            adapter = graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors")
            group = graph.add("RespoDiffFairGroup", adapter=adapter, concept=name, share=1.0, strength=1.0)
            settings = {"none_share": 0.0, "allocation": "balanced", "seed": 0, "batch_size": 2}
            fair = graph.add(
                "RespoDiffFairBatch", model=load_unet(graph, "sd15"), **settings, **{"groups.group0": group}
            )
            graph.add("ProbeDescribe", model=fair)
            assert "Its concepts are: woman" in refused(bench, graph).message

    def test_of_the_adapter_to_save(self, bench, names):
        for name in names:
            graph = Graph()
            adapter = graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors")
            graph.add("RespoDiffSaveAdapter", adapter=adapter, name=name, overwrite=True, dtype="float32")
            assert "is not a valid name for a file in" in refused(bench, graph).message

    def test_of_the_summed_concept(self, bench, names):
        for name in names:
            graph = Graph()
            adapter = graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors")
            one = graph.add("RespoDiffCombineAdapters", adapter_a=adapter, strength_a=1.0, strength_b=1.0, as_one=name)
            graph.add("RespoDiffInspectAdapter", adapter=one)
            assert "concept" in refused(bench, graph).message

    def test_of_the_clip_folder(self, bench, names):
        for name in names:
            graph = Graph()
            images = graph.add("EmptyImage", width=8, height=8, batch_size=1, color=0)
            settings = {"classes": "a\nb", "clip_folder": name, "accumulate": False, "series": 0}
            graph.add("RespoDiffBiasMeter", images=images, **settings)
            assert "There is no CLIP folder" in refused(bench, graph).message

    def test_of_a_pictures_group_are_written_as_words(self, bench, names):
        for name in names:
            (saved,) = self.pictures(bench, name.splitlines()[0], "group")[0]
            assert saved.parent == bench.server.base_directory / "output"
            assert saved.name.isprintable()

    def test_that_begin_pictures_names(self, bench, names):
        """Refused, or (a backslash, angle brackets) part of a name below the output folder, as with Save Image."""
        for name in names:
            saved, error = self.pictures(bench, "a", name)
            assert bool(saved) != bool(error)
            assert all(path.name.isprintable() for path in saved)
            if error:
                assert "is not a valid filename_prefix" in error or "outside the output folder is not allowed" in error

    def pictures(self, bench: Bench, group: str, prefix: str) -> tuple[set[Path], str]:
        """The files that Save RespoDiff Images writes of one picture, or what it says."""
        home = bench.server.base_directory / "output"
        before = set(home.rglob("*.png"))
        graph = Graph()
        image = graph.add("EmptyImage", width=8, height=8, batch_size=1, color=0)
        graph.add("RespoDiffSaveImages", images=image, names=group, filename_prefix=prefix)
        error = bench.server.run(graph, check=False).error
        return set(home.rglob("*.png")) - before, error.message if error else ""


@pytest.mark.parametrize("value", [5, None, True, {"a": 1}, {"__value__": ["a", "b"]}, "", []], ids=repr)
def test_other_things_in_the_place_of_names(bench, value):
    """In a workflow that was not written by the page; said while it runs, or before."""
    sliders = {"adapter": value, "adapter.concepts": value, "adapter.strength of woman": value}

    def loaded(graph: Graph) -> Link:
        return graph.add("RespoDiffLoadAdapter", adapter=value)

    for model in (
        lambda graph: steer(graph, load_unet(graph, "sd15"), loaded(graph)),
        lambda graph: fine(graph, concept=value),
        lambda graph: graph.add("RespoDiffConceptMixer", model=load_unet(graph, "sd15"), **sliders),
    ):
        graph = Graph()
        graph.add("ProbeDescribe", model=model(graph))
        with contextlib.suppress(PromptRejected):
            refused(bench, graph)


class TestNumbersThatAreNone:
    """JSON knows no NaN, but Python reads and writes it."""

    @pytest.mark.parametrize("field", ["strength", "ram_strength", "sam_strength", "start_percent", "end_percent"])
    def test_in_steer(self, bench, field):
        graph = Graph()
        graph.add("ProbeDescribe", model=fine(graph, **{field: math.nan}))
        assert refused(bench, graph).node_type == "RespoDiffSteer"

    def test_in_a_mixers_slider(self, bench):
        graph = Graph()
        sliders = {
            "adapter": "fine.safetensors",
            "adapter.concepts": "woman",
            "adapter.strength of woman": math.nan,
        }
        mixer = graph.add("RespoDiffConceptMixer", model=load_unet(graph, "sd15"), **sliders)
        graph.add("ProbeDescribe", model=mixer)
        assert "is NaN or infinite" in refused(bench, graph).message

    @pytest.mark.parametrize("field", ["share", "strength", "none_share", "first_scale", "second_scale"])
    def test_in_a_fair_batch(self, bench, field):
        graph = Graph()
        values = dict.fromkeys(("share", "strength", "none_share", "first_scale", "second_scale"), 1.0)
        values[field] = math.nan
        share, strength, none_share, first, second = values.values()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors")
        group = graph.add("RespoDiffFairGroup", adapter=adapter, concept="woman", share=share, strength=strength)
        both = graph.add("RespoDiffCrossGroups", first=group, second=group, first_scale=first, second_scale=second)
        settings = {"none_share": none_share, "allocation": "balanced", "seed": 0, "batch_size": 2}
        fair = graph.add("RespoDiffFairBatch", model=load_unet(graph, "sd15"), **settings, **{"groups.group0": both})
        graph.add("ProbeDescribe", model=fair)
        assert refused(bench, graph).exception_type in ("respodiff.ShareError", "respodiff.StrengthError")

    def test_in_combine(self, bench):
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="fine.safetensors")
        both = graph.add("RespoDiffCombineAdapters", adapter_a=adapter, strength_a=math.nan, strength_b=1.0, as_one="")
        graph.add("RespoDiffInspectAdapter", adapter=both)
        assert "is NaN or infinite" in refused(bench, graph).message


class TestTexts:
    """In an adapter's metadata, which anybody can write."""

    @pytest.fixture
    def file(self, bench) -> Iterator[str]:
        concept = make_adapter("sd15").concepts["woman"]
        info = ConceptInfo(
            "woman",
            "fairness",
            HOSTILE_TEXT,
            "x" * 200_000,
            training={HOSTILE_TEXT: HOSTILE_TEXT},
            axis=PAGE[:64],
            synonyms=(HOSTILE_TEXT,),
        )
        adapter = Adapter(
            None,
            {"woman": ModuleConcept(info, concept.ram, concept.sam)},
            None,
            {"modelspec.title": HOSTILE_TEXT, "modelspec.author": "x" * 200_000, HOSTILE_TEXT: HOSTILE_TEXT},
        )
        yield bench.save_adapter(adapter, "texts.safetensors")
        (bench.adapters / "texts.safetensors").unlink()

    @pytest.fixture(autouse=True)
    def unlinked_in_time(self, server_stays_as_it_is, file) -> None:
        """The file goes before it is looked whether all is as it was."""

    def test_inspect_shows_text_and_picture(self, bench, file):
        graph = Graph()
        inspect = graph.add("RespoDiffInspectAdapter", adapter=graph.add("RespoDiffLoadAdapter", adapter=file))
        graph.add("SaveImage", images=output(inspect, 1), filename_prefix="texts")
        shown = graph.add("PreviewAny", source=inspect)
        outputs = bench.run(graph).outputs
        (text,) = outputs[inspect[0]]["text"]
        assert outputs[shown[0]]["text"] == [text]
        assert all(line.isprintable() for line in text.split("\n"))
        assert "nice\\x1b[2J\\x1b]0;pwned\\x07\\u202e [ERROR] a line of its own " in text
        assert len(text) < 20_000

    @pytest.mark.parametrize("which", ["family", "prediction"])
    def test_names_of_models_that_are_none_are_refused_in_one_line(self, bench, file, which):
        bench.save_adapter(make_adapter("sd15"), file)
        rewrite_metadata(bench.adapters / file, **{f"respodiff.{which}": HOSTILE_TEXT})
        graph = Graph()
        loaded = graph.add("RespoDiffLoadAdapter", adapter=file)
        sample(graph, steer(graph, load_unet(graph, "sd15"), loaded), "sd15", steps=1)
        assert f"respodiff.{which} is 'nice\\x1b[2J" in refused(bench, graph).message
        assert f"respodiff.{which} is 'nice\\x1b[2J" in bench.server.log_text()

    def test_a_prompt_of_a_million_characters_is_read(self, bench, file):
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter=file)
        guard = graph.add(
            "RespoDiffPromptGuard", prompt=HOSTILE_TEXT + "a doctor, " * 100_000, **{"adapters.adapter0": adapter}
        )
        shown = graph.add("PreviewAny", source=output(guard, 3))
        result = bench.run(graph)
        assert result.outputs[shown[0]]["text"]
        assert result.seconds < 20

    def test_an_axis_that_is_none_is_refused_in_one_line(self, bench, file):
        bench.save_adapter(make_adapter("sd15"), file)
        told = json.dumps([{"name": "woman", "axis": HOSTILE_TEXT}])
        rewrite_metadata(bench.adapters / file, **{"respodiff.concepts": told})
        graph = Graph()
        loaded = graph.add("RespoDiffLoadAdapter", adapter=file)
        sample(graph, steer(graph, load_unet(graph, "sd15"), loaded), "sd15", steps=1)
        assert "An axis must be at most 64 printable characters, not 'nice\\x1b[2J" in refused(bench, graph).message

    @pytest.mark.parametrize("name", [f"{ESCAPE}.safetensors", "a\n[ERROR] a line of its own.safetensors"])
    def test_files_of_such_names_are_not_offered(self, bench, name):
        path = bench.adapters / name
        path.write_bytes(b"no adapter")
        try:
            listed = json.dumps(bench.server.get_json("/object_info"))
        finally:
            path.unlink()
        assert "fine.safetensors" in listed
        assert json.dumps(name) not in listed
