"""`make soak`: trainings in the graph, interrupted fifty times, twenty in a row, on every kind of model."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from comfy_bench import Bench
from comfy_graph import Graph
from comfy_hosts import hosts, make_server, models_folder, source_of
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.trainer.toyworld.host import ToyWorldInComfyUI
from toyworld_graph import load_toyworld
from training_graph import KINDS, SQUARE, check_training, saved, states, trained_on_toyworld

PROBES = Path(__file__).parents[1] / "host" / "probe_nodes"
INTERRUPTS = int(os.environ.get("RESPODIFF_INTERRUPTS", "50"))
TRAININGS = 20
MOST = 1.02


@pytest.fixture
def toyworld(tmp_path: Path) -> Iterator[Bench]:
    with ToyWorldInComfyUI(source_of(hosts()[0]), tmp_path) as server:
        yield Bench(server)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    source = source_of(hosts()[0])
    server = make_server(source, tmp_path, models_folder(source))
    server.link_node_pack(PROBES, "probe_nodes")
    with server:
        yield Bench(server)


@pytest.mark.timeout(3600)
def test_fifty_interrupts_at_random_moments_lose_no_step(toyworld):
    """The steps done never become fewer, and the result is that of a training in one go."""
    random.seed(20261128)
    steps = 12 * INTERRUPTS
    graph = Graph()
    whole = saved(toyworld, graph, trained_on_toyworld(graph, load_toyworld(graph), steps), "whole")
    graph = Graph()
    words = {**SQUARE, "name": "parts"}
    adapter = trained_on_toyworld(graph, load_toyworld(graph), steps, words=words)
    graph.add("RespoDiffSaveAdapter", adapter=adapter, name="parts", dtype="float32", overwrite=True)
    done, seconds = [0], []
    for number in range(INTERRUPTS):
        prompt = toyworld.server.queue(graph)
        time.sleep(random.uniform(0.0, 1.2))
        asked = time.monotonic()
        toyworld.server.interrupt()
        result = toyworld.server.wait(prompt)
        seconds.append(time.monotonic() - asked)
        newest = states(toyworld)[0]["losses"]
        done.append(done[-1] if len(newest) == steps and number == 0 else len(newest))
        print(f"\n{number + 1:3} {result.status}, {done[-1]} steps, {seconds[-1]:.2f} s", end="", flush=True)
    toyworld.run(graph)
    parts = read(toyworld.adapters / "parts.safetensors").concepts["parts"]
    for role in ("ram", "sam"):
        assert torch.equal(getattr(parts, role).tensors[""], getattr(whole.concepts["square"], role).tensors[""])
    later = done[2:]
    assert later == sorted(later), "steps were lost"
    assert max(seconds) < 2


@pytest.mark.timeout(3600)
def test_memory_stays_flat_over_twenty_trainings(toyworld):
    resident = []
    for number in range(TRAININGS):
        graph = Graph()
        adapter = trained_on_toyworld(graph, load_toyworld(graph), 20, training_seed=number)
        graph.add("RespoDiffInspectAdapter", adapter=adapter)
        toyworld.run(graph)
        resident.append(toyworld.server.rss_bytes())
    print([round(one / 2**20) for one in resident], "MiB")
    assert resident[-1] / resident[4] <= MOST


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("family", "kind"),
    [*(("sd15", kind) for kind in KINDS if kind != "FreeU"), ("sd15_wide", "FreeU"), ("sdxl", "v-prediction")],
)
def test_it_trains_on_every_kind_of_model(bench, family, kind):
    print(f"\n{family} {kind}: {check_training(bench, kind, family):.3f} of the loss without learning")
