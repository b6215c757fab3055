"""What tests and benchmarks rely on in the server they drive."""

from comfy_bench import load_unet, sample
from comfy_graph import Graph


def test_freed_memory_holds_no_result_of_an_equal_graph_queued_at_once(bench):
    graph = Graph()
    sample(graph, load_unet(graph, "sd15"), "sd15", steps=1, seed=61)
    saved = set()
    for _ in range(5):
        bench.server.free_memory()
        (file,) = bench.run(graph).outputs[graph.id_of("SaveLatent")]["latents"]
        saved.add(file["filename"])
    assert len(saved) == 5
