"""200 mixed prompts in a row on one server: it stays alive, and its memory flat. `make soak` runs it.

The server is the first that RESPODIFF_HOSTS names.
RESPODIFF_SOAK_HOST_ALONE=1 runs the same sampling without a node of the pack: what grows then is the host's own.
RESPODIFF_ARTEFACTS names a folder for the figures (CSV) and their picture.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
import soak_prompts as prompts
from comfy_bench import Bench, load_unet, sample, steer
from comfy_graph import Graph
from comfy_hosts import hosts, make_server, models_folder, source_of
from small_judges import write_clip

RUNS = 200
WARM = 20  # runs after which every model and size has been there
MOST = 1.02
INTERRUPT_EVERY = 25
REPLACE_EVERY = 10

STEERED = not os.environ.get("RESPODIFF_SOAK_HOST_ALONE")
PROBES = Path(__file__).parents[1] / "host" / "probe_nodes"


@pytest.fixture(params=hosts()[:1])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    source = source_of(request.param)
    server = make_server(source, tmp_path, models_folder(source))
    server.link_node_pack(PROBES, "probe_nodes")
    with server:
        yield Bench(server)


@pytest.mark.timeout(3600)
def test_memory_stays_flat_over_200_mixed_prompts(bench):
    write_clip(bench.server.base_directory / "models" / prompts.CLIP_FOLDER)
    prompts.prepare(bench)
    resident = []
    for number, graph in enumerate(islice(prompts.graphs(STEERED), RUNS), start=1):
        bench.run(graph)
        if number % REPLACE_EVERY == 0:
            prompts.replace_adapter(bench, number)
        if number % INTERRUPT_EVERY == 0:
            bench.interrupt_midway(long_run(number))
        resident.append(bench.server.rss_bytes())
    keep(resident)
    growth = resident[-1] / resident[WARM - 1]
    assert growth <= MOST, f"resident memory grew by {growth - 1:.1%} from run {WARM} to run {RUNS}"
    if STEERED:
        assert alive(bench, "HSpacePatch") < 2 * len(prompts.MAKERS), "models of former runs are still steered"
        assert alive(bench, "_Run") == 0


def long_run(number: int) -> Graph:
    graph = Graph()
    model = load_unet(graph, "sd15")
    if STEERED:
        model = steer(graph, model, prompts.load(graph, "changing"))
    sample(graph, graph.add("ProbeSteps", model=model, name=f"interrupted{number}"), "sd15", steps=50, seed=number)
    return graph


def alive(bench: Bench, class_name: str) -> int:
    graph = Graph()
    probe = graph.add("ProbeAlive", class_name=class_name)
    return int(bench.run(graph).outputs[probe[0]]["text"][0])


def keep(resident: Sequence[int]) -> None:
    """The figures as a table and as a picture, where RESPODIFF_ARTEFACTS says so."""
    if not (named := os.environ.get("RESPODIFF_ARTEFACTS")):
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    name = "steered" if STEERED else "host_alone"
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    megabytes = [round(each / 1e6, 1) for each in resident]
    with (folder / f"resident_{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("run", "resident_mb"), *enumerate(megabytes, start=1)])
    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(range(1, len(megabytes) + 1), megabytes)
    axes.axhline(MOST * megabytes[WARM - 1], linestyle="--", linewidth=1, label=f"{MOST} x run {WARM}")
    axes.set(xlabel="run", ylabel="resident memory (MB)", ylim=(0, None))
    axes.legend(loc="lower right")
    figure.savefig(folder / f"resident_{name}.png", dpi=120)
