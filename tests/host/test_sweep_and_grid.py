"""Strength Sweep and Grid: image i at strength i, laid out with its labels."""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from comfy_bench import Bench, load_unet, make_adapter, relative, sample, steer, tolerance
from comfy_graph import Graph, Link, output
from PIL import Image


def color_of(number: int) -> int:
    """Of the plain picture with that number."""
    return 0xC04080 - 0x141000 * number


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
        assert relative(batch[image : image + 1], alone(bench, woman=strength)) <= tolerance(bench, "sd15")


def test_a_range_and_a_noise_of_its_own_for_each(bench):
    batch = swept(bench, "0 to 0 in 3", same_noise=False)
    assert relative(batch[:1], alone(bench)) <= tolerance(bench, "sd15")
    assert relative(batch[1:2], batch[:1]) > 0.1


def test_two_concepts_span_a_grid(bench):
    batch = swept(bench, "0, 1", grid=True, concept_y="old", strengths_y="0, 0.5, 1")
    assert len(batch) == 6
    for image, (old, woman) in enumerate((o, w) for o in (0, 0.5, 1) for w in (0, 1)):
        assert relative(batch[image : image + 1], alone(bench, woman=woman, old=old)) <= tolerance(bench, "sd15")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"strengths": "strong"}, "is not a list of strengths"),
        ({"strengths": "0, 1", "concept": "man"}, "has no concept 'man'"),
        ({"strengths": "0, 1", "concept": "(the only one)"}, "several concepts. Choose one of them: woman, old"),
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
        plain = [
            graph.add("EmptyImage", width=256, height=192, batch_size=1, color=color_of(number))
            for number in range(pictures)
        ]
        images = plain[0]
        for one in plain[1:]:
            images = graph.add("ImageBatch", image1=images, image2=one)
        grid = graph.add("RespoDiffGrid", images=images, **wires)
        graph.add("SaveImage", images=grid, filename_prefix="grid")
        (saved,) = bench.run(graph).outputs[graph.id_of("SaveImage")]["images"]
        path = bench.server.output_path(saved)
        if keep := os.environ.get("RESPODIFF_ARTEFACTS"):
            shutil.copy(path, os.path.join(keep, f"grid_{name}.png"))
        return Image.open(path).convert("RGB")

    def places(self, grid: Image.Image, pictures: int) -> list[tuple[int, int]]:
        """The upper left corner of each picture of the batch, found by its colour."""
        pixels = np.asarray(grid).astype(int) @ (65536, 256, 1)
        corners = []
        for number in range(pictures):
            rows, columns = np.nonzero(pixels == color_of(number))
            assert len(rows) == 256 * 192, "each picture is there, whole and once"
            corners.append((int(columns.min()), int(rows.min())))
        return corners

    def test_a_sweep_along_one_concept_is_a_row_in_its_order(self, bench):
        places = self.places(self.picture(bench, "row", 4, strengths="-1, 0, 0.5, 1"), 4)
        assert places == sorted(places)
        assert len({y for _, y in places}) == 1

    def test_two_concepts_are_rows_and_columns(self, bench):
        places = self.places(self.picture(bench, "xy", 6, xy=True), 6)
        xs, ys = sorted({x for x, _ in places}), sorted({y for _, y in places})
        assert places == [(x, y) for y in ys for x in xs]
        assert (len(xs), len(ys)) == (3, 2)

    def test_labels_stand_below_their_pictures(self, bench):
        grids = [
            self.picture(bench, f"labels_{number}", 3, labels=labels)
            for number, labels in enumerate(("woman\nman\nnone", "woman\nnone\nnone"))
        ]
        differ = np.nonzero((np.asarray(grids[0]) != np.asarray(grids[1])).any(axis=2))
        (_, _), (x, y), _ = self.places(grids[0], 3)
        assert y + 192 <= differ[0].min()
        assert x <= differ[1].min()
        assert differ[1].max() < x + 256, "only the second picture's label changed"
        assert grids[0].height > self.picture(bench, "plain", 3).height

    def test_pictures_of_another_batch_are_refused(self, bench):
        graph = Graph()
        images = graph.add("EmptyImage", width=64, height=64, batch_size=3, color=0)
        graph.add("RespoDiffGrid", images=images, sweep=output(sweep(graph, "0, 1"), 2))
        assert "There are 3 images, but the sweep has 2" in bench.error(graph).message
