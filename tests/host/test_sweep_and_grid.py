"""Strength Sweep and Grid: image i at strength i, laid out with its labels."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, sample, steer
from comfy_graph import Graph, Link, output
from PIL import Image

TOLERANCE = 1e-5


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def sweep(graph: Graph, strengths: str, concept: str = "woman", **more: Any) -> Link:
    """Strength Sweep on test.safetensors; its outputs are MODEL, LATENT, SWEEP."""
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    settings = {"same_noise": True, "concept_y": "(the only one)", "strengths_y": "0, 1"} | more
    if settings.pop("grid", False):
        settings["adapter_y"] = adapter
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    return graph.add(
        "RespoDiffStrengthSweep",
        model=load_unet(graph, "sd15"),
        adapter=adapter,
        concept=concept,
        strengths=strengths,
        latent=latent,
        **settings,
    )


def swept(bench: Bench, strengths: str, **more: Any) -> torch.Tensor:
    graph = Graph()
    node = sweep(graph, strengths, **more)
    sample(graph, node, "sd15", latent_image=output(node, 1), seed=81)
    return bench.latent(graph)


def alone(bench: Bench, **strengths: float) -> torch.Tensor:
    graph = Graph()
    model = load_unet(graph, "sd15")
    adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
    for concept, strength in strengths.items():
        model = steer(graph, model, adapter, concept, strength)
    sample(graph, model, "sd15", seed=81)
    return bench.latent(graph)


@pytest.fixture(autouse=True)
def adapter(bench):
    bench.save_adapter(make_adapter("sd15", "woman", "old"))


def test_image_i_is_the_single_run_at_strength_i_of_the_same_noise(bench):
    batch = swept(bench, "-1, 0, 0.5, 1")
    for image, strength in enumerate((-1, 0, 0.5, 1)):
        assert relative(batch[image : image + 1], alone(bench, woman=strength)) <= TOLERANCE


def test_a_range_and_a_noise_of_its_own_for_each(bench):
    batch = swept(bench, "0 to 0 in 3", same_noise=False)
    assert relative(batch[:1], alone(bench)) <= TOLERANCE
    assert relative(batch[1:2], batch[:1]) > 0.1


def test_two_concepts_span_a_grid(bench):
    batch = swept(bench, "0, 1", grid=True, concept_y="old", strengths_y="0, 0.5, 1")
    assert len(batch) == 6
    for image, (old, woman) in enumerate((o, w) for o in (0, 0.5, 1) for w in (0, 1)):
        assert relative(batch[image : image + 1], alone(bench, woman=woman, old=old)) <= TOLERANCE


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"strengths": "strong"}, "names no strengths"),
        ({"strengths": "0, 1", "concept": "man"}, "holds no concept 'man'"),
        ({"strengths": "0, 1", "concept": "(the only one)"}, "holds several concepts, choose one: woman, old"),
        ({"strengths": "0 to 1 in 20", "grid": True, "concept_y": "old", "strengths_y": "0 to 1 in 20"}, "400 images"),
    ],
)
def test_what_cannot_be_is_said_on_the_node(bench, how, says):
    graph = Graph()
    node = sweep(graph, **how)
    sample(graph, node, "sd15", latent_image=output(node, 1), steps=1)
    error = bench.error(graph)
    assert error.node_type == "RespoDiffStrengthSweep"
    assert says in error.message


def test_a_safety_concept_is_not_swept_to_the_other_side(bench):
    bench.save_adapter(make_adapter("sd15", "woman", category="safety"))
    graph = Graph()
    node = sweep(graph, "-1, 0, 1")
    sample(graph, node, "sd15", latent_image=output(node, 1), steps=1)
    assert "safety concept" in bench.error(graph).message


class TestGrid:
    def picture(self, bench: Bench, name: str, pictures: int, **wires: Any) -> Image.Image:
        graph = Graph()
        if wires.pop("xy", False):
            node = sweep(graph, "0, 0.5, 1", grid=True, concept_y="old", strengths_y="0, 1")
            wires["sweep"] = output(node, 2)
        elif strengths := wires.pop("strengths", ""):
            wires["sweep"] = output(sweep(graph, strengths), 2)
        images = graph.add("EmptyImage", width=256, height=192, batch_size=pictures, color=0x6E4A8F)
        grid = graph.add("RespoDiffGrid", images=images, **wires)
        graph.add("SaveImage", images=grid, filename_prefix="grid")
        (saved,) = bench.run(graph).outputs[graph.id_of("SaveImage")]["images"]
        path = bench.server.output_path(saved)
        if keep := os.environ.get("RESPODIFF_ARTEFACTS"):
            shutil.copy(path, os.path.join(keep, f"grid_{name}.png"))
        return Image.open(path).convert("RGB")

    def pictures_in(self, grid: Image.Image) -> list[tuple[int, int]]:
        """Corners of the pictures, found by their colour, row by row."""
        pixels = grid.load()
        colour = (0x6E, 0x4A, 0x8F)
        corners = []
        for y in range(1, grid.height):
            for x in range(1, grid.width):
                if pixels[x, y] == colour and pixels[x - 1, y] != colour and pixels[x, y - 1] != colour:
                    corners.append((x, y))
        return corners

    def test_a_sweep_along_one_concept_is_a_row(self, bench):
        grid = self.picture(bench, "row", 4, strengths="-1, 0, 0.5, 1")
        corners = self.pictures_in(grid)
        assert len(corners) == 4
        assert len({y for _, y in corners}) == 1

    def test_two_concepts_are_rows_and_columns(self, bench):
        corners = self.pictures_in(self.picture(bench, "xy", 6, xy=True))
        assert (len({x for x, _ in corners}), len({y for _, y in corners})) == (3, 2)

    def test_labels_stand_below_each_picture(self, bench):
        labels = self.picture(bench, "labels", 3, labels="woman\nman\nnone")
        assert len(self.pictures_in(labels)) == 3
        assert labels.height > self.picture(bench, "plain", 3).height

    def test_pictures_of_another_batch_are_refused(self, bench):
        graph = Graph()
        images = graph.add("EmptyImage", width=64, height=64, batch_size=3, color=0)
        graph.add("RespoDiffGrid", images=images, sweep=output(sweep(graph, "0, 1"), 2))
        assert "3 pictures came, but the sweep has 2" in bench.error(graph).message
