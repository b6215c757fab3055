"""Fair Prompts in a real ComfyUI: each image of a batch is that of its own prompt, in every family of models."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from comfy_bench import Bench, load_unet, relative, tolerance
from comfy_graph import Graph, Link, output

IMAGES = 4
GROUPS = "female\nmale\nolder non-binary"  # texts of different length


def fair(graph: Graph, clip: Link, **changes: Any) -> Link:
    settings = {
        "prompt": "a photo of a doctor",
        "groups": "female\nmale",
        "none_share": 0.0,
        "allocation": "balanced",
        "seed": 0,
        "batch_size": IMAGES,
    }
    return graph.add("RespoDiffFairPrompts", clip=clip, **{**settings, **changes})


def loaded(graph: Graph, family: str) -> tuple[Link, Link]:
    if family in ("sd15", "sdxl"):
        return load_unet(graph, family), graph.add("ProbeClip", family=family)
    return graph.add("ProbeTransformer", family=family), graph.add("ProbeWords", family=family)


def sampled(graph: Graph, model: Link, positive: Link, negative: Link, image: int | None = None) -> None:
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=IMAGES)
    if image is not None:
        latent = graph.add("LatentFromBatch", samples=latent, batch_index=image, length=1)
    sampler = {"seed": 7, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    latent = graph.add("KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **sampler)
    graph.add("SaveLatent", samples=latent, filename_prefix="fair")


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux", "qwen", "z-image"])
def test_each_image_is_that_of_its_own_prompt(bench, family):
    graph = Graph()
    model, clip = loaded(graph, family)
    positive = fair(graph, clip, groups=GROUPS, seed=1)
    sampled(graph, model, positive, graph.add("ProbeEncode", clip=clip, text=""))
    shown = graph.add("PreviewAny", source=output(positive, 3))
    outputs = bench.run(graph).outputs
    batch = bench.saved_latent(outputs[graph.id_of("SaveLatent")])
    prompts = outputs[shown[0]]["text"][0].splitlines()
    assert len(set(prompts)) == 3
    allowed = tolerance(bench, family) if family in ("sd15", "sdxl") else 1e-5
    for image, prompt in enumerate(prompts):
        graph = Graph()
        model, clip = loaded(graph, family)
        negative = graph.add("ProbeEncode", clip=clip, text="")
        sampled(graph, model, graph.add("ProbeEncode", clip=clip, text=prompt), negative, image)
        alone = bench.latent(graph)
        assert relative(batch[image : image + 1], alone) < allowed
        assert relative(batch[image : image + 1], batch[(image + 1) % IMAGES][None]) > 1e-2


def names(bench: Bench, **changes: Any) -> list[str]:
    graph = Graph()
    node = fair(graph, graph.add("ProbeClip", family="sd15"), **changes)
    shown = graph.add("PreviewAny", source=output(node, 2))
    return bench.run(graph).outputs[shown[0]]["text"][0].splitlines()


def test_the_shares_are_exact_over_queued_runs(bench):
    counts: Counter[str] = Counter()
    for seed in range(5):
        counts += Counter(names(bench, groups="female\nmale = 2\nchild: young = 2", batch_size=2, seed=seed))
    assert counts == {"female": 2, "male": 4, "child": 4}


def test_the_guard_leaves_explicit_prompts_alone(bench):
    assert names(bench, prompt="a photo of a male doctor") == ["none"] * IMAGES
    assert names(bench, prompt="a photo of a male doctor", guard=False).count("female") == IMAGES // 2
    assert names(bench, none_share=2.0).count("none") == IMAGES // 2


def test_the_latent_says_how_many(bench):
    graph = Graph()
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=3)
    node = fair(graph, graph.add("ProbeClip", family="sd15"), latent=latent)
    shown = graph.add("PreviewAny", source=output(node, 2))
    assert len(bench.run(graph).outputs[shown[0]]["text"][0].splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"groups": ""}, "There is no group"),
        ({"groups": "female = many"}, "is not a number"),
        ({"groups": "woman: female\nwoman: lady"}, "The group 'woman' is listed twice"),
        ({"groups": "woman: = 2"}, "has no words"),
        ({"groups": "female = 0"}, "All shares are 0"),
        ({"prompt": "", "none_share": 1.0}, "the prompt is empty"),
    ],
)
def test_bad_input_is_a_sentence(bench, changes, said):
    graph = Graph()
    node = fair(graph, graph.add("ProbeClip", family="sd15"), **changes)
    graph.add("PreviewAny", source=output(node, 2))
    assert said in bench.error(graph).message


def test_rows_are_tensors_of_one_entry_where_lengths_agree(bench):
    """One evaluation of the model a step, as for a single prompt."""
    graph = Graph()
    model, clip = loaded(graph, "sd15")
    steps = graph.add("ProbeSteps", model=model, name="rows")
    sampled(graph, steps, fair(graph, clip), graph.add("ProbeEncode", clip=clip, text=""))
    bench.run(graph)
    assert (bench.server.base_directory / "output" / "rows.steps").stat().st_size == 2
