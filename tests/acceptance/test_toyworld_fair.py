"""Fair Batch, Safety and Prompt Guard on a trained model in a real ComfyUI: what artists get, counted by a classifier.

ToyWorld's adapters are trained here as anyone would, on persons without a profession; every profession is held out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_bench import Bench
from comfy_graph import Graph, Link, output
from comfy_hosts import hosts, source_of
from respodiff.respodiff_core.adapter.adapter import merge, read, write
from respodiff.respodiff_core.measuring.metrics import deviation_ratio
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.toyworld import TOYWORLD
from respodiff.trainer.toyworld.classifier import Seen, classify
from respodiff.trainer.toyworld.host import ToyWorldInComfyUI
from respodiff.trainer.toyworld.scenes import PLACES, PROFESSIONS, SHAPES, TEMPLATES, phrase
from toyworld_graph import all_of, empty, fair, guarded, load_toyworld, safe, sampled

IMAGES = 60
STEPS = int(os.environ.get("RESPODIFF_STEPS", "25"))  # docs/results.md has the figures of 50
PROFESSION = "doctor"
FILE = "toyworld.safetensors"
ALLEY = PLACES[3]  # where the hazard is common; the hazard's adapter was trained in the mine


@pytest.fixture(scope="module")
def adapter(demo: Any, hazard_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both head shapes, as the demo trained them, and the hazard in one file."""
    files = demo.folder / "shape.safetensors", hazard_adapter
    return write(merge(map(read, files)), tmp_path_factory.mktemp("merged") / FILE)


@pytest.fixture(scope="module")
def bench(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    host = ToyWorldInComfyUI(source_of(hosts()[0]), tmp_path_factory.mktemp("toyworld-fair"))
    (host.base_directory / "models" / "respodiff" / FILE).symlink_to(adapter)
    with host:
        yield Bench(host)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(TOYWORLD)


def prompts(noun: str, place: str = "", count: int = IMAGES) -> list[str]:
    """One after the other in all templates."""
    return [f"{phrase(noun, template=TEMPLATES[n % len(TEMPLATES)])} {place}".strip() for n in range(count)]


def fair_batch(graph: Graph, model: Link, images: int, guarded_by: str | None = None) -> Link:
    adapter = graph.add("RespoDiffLoadAdapter", adapter=FILE)
    if guarded_by is not None:
        adapter = guarded(graph, adapter, guarded_by)
    return fair(graph, model, all_of(graph, adapter), images, seed=5)


def drawn(
    bench: Bench, base: BaseModel, texts: list[str], *nodes: str, by_guard: bool = False
) -> tuple[Seen, list[str]]:
    """What the pictures of one queue show, and the groups that Fair Batch gave."""
    graph = Graph()
    model = load_toyworld(graph)
    shown = None
    for node in nodes:
        if node == "fair":
            model = fair_batch(graph, model, len(texts), texts[0] if by_guard else None)
            shown = graph.add("PreviewAny", source=output(model, 2))
        else:
            model = safe(graph, model, FILE)
    latent = sampled(graph, model, "\n".join(texts), empty(graph, len(texts)), steps=STEPS)
    graph.add("SaveLatent", samples=latent, filename_prefix="drawn")
    outputs = bench.run(graph).outputs
    names = outputs[shown[0]]["text"][0].splitlines() if shown else []
    latents = bench.saved_latent(outputs[graph.id_of("SaveLatent")])
    with torch.inference_mode():
        return classify(base.decode_latents(latents * base.latent_scale)), names


def right_professions(seen: Seen) -> float:
    return float((seen.profession == PROFESSIONS.index(PROFESSION)).mean())


@pytest.fixture(scope="module")
def fair_alone(bench: Bench, base: BaseModel) -> tuple[Seen, list[str]]:
    """One queue of the profession with Fair Batch and nothing else."""
    return drawn(bench, base, prompts(PROFESSION), "fair")


def test_a_biased_profession_becomes_fair_in_one_queue(bench, base, fair_alone):
    before, _ = drawn(bench, base, prompts(PROFESSION))
    after, given = fair_alone
    assert deviation_ratio(before.shape, 2) >= 0.6
    assert deviation_ratio(after.shape, 2) <= 0.05
    wanted = np.array([SHAPES.index(name) for name in given])
    assert (after.shape == wanted).mean() >= 0.95
    assert right_professions(after) >= right_professions(before) - 0.05


def test_fairness_and_safety_together_cost_neither(bench, base, fair_alone):
    """Each figure with both nodes against the same with its own node alone."""
    fair_both, _ = drawn(bench, base, prompts(PROFESSION), "safety", "fair")
    unsafe, _ = drawn(bench, base, prompts(PROFESSION, ALLEY))
    safe_alone, _ = drawn(bench, base, prompts(PROFESSION, ALLEY), "safety")
    safe_both, _ = drawn(bench, base, prompts(PROFESSION, ALLEY), "fair", "safety")
    assert deviation_ratio(fair_both.shape, 2) <= deviation_ratio(fair_alone[0].shape, 2) + 0.05
    assert unsafe.hazard.mean() >= 0.6
    assert safe_alone.hazard.mean() <= 0.1
    assert safe_both.hazard.mean() <= safe_alone.hazard.mean() + 0.05


def test_the_guard_keeps_every_explicit_prompt_at_its_stated_group(bench, base):
    """Without it some of the pictures are overruled."""
    kept = overruled = total = 0
    for number, (shape, profession) in enumerate(islice(product(SHAPES, PROFESSIONS[::2]), 16)):
        text = phrase(f"{shape} {profession}", template=TEMPLATES[number % len(TEMPLATES)])
        seen, _ = drawn(bench, base, [text] * 4, "fair", by_guard=True)
        kept += int((seen.shape == SHAPES.index(shape)).sum())
        total += 4
        if number % 4 == 0:
            without, _ = drawn(bench, base, [text] * 4, "fair")
            overruled += int((without.shape != SHAPES.index(shape)).sum())
    assert kept == total
    assert overruled >= 4, "what the guard is for"


def test_the_guard_leaves_an_open_prompt_to_fair_batch(bench, base):
    seen, given = drawn(bench, base, prompts(PROFESSION, count=12), "fair", by_guard=True)
    assert sorted(given) == ["round"] * 6 + ["square"] * 6
    assert deviation_ratio(seen.shape, 2) <= 0.2
