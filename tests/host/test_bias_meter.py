"""Bias Meter: labels as transformers gives them, counts over runs, and refusals, on pictures of random colours."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_clips
import torch
from comfy_bench import Bench, load_unet, make_adapter
from comfy_graph import Graph, Link, output
from comfy_hosts import small_checkpoint
from PIL import Image
from respodiff.trainer.comfyui.outputs import Result
from safetensors.torch import load_file, save_file
from small_judges import write_clip
from transformers import CLIPModel, CLIPProcessor

CONNECTED = "(use clip_vision and clip)"
METER = "RespoDiffBiasMeter"
SMALL = "clip_vision/nets/small-clip"
WORDS = ("a tailor", "(a woman:1.5)", "a man", "old", "a photo of a nurse", "((night))", "a castle", "x", "blue", "ten")

_fresh = count(1000)


@dataclass(frozen=True)
class Pictures:
    """Files in ComfyUI's input folder."""

    folder: Path
    files: Sequence[str]

    @property
    def opened(self) -> list[Image.Image]:
        return [Image.open(self.folder / file).convert("RGB") for file in self.files]

    def load(self, graph: Graph) -> Link:
        loaded = [graph.add("LoadImage", image=file) for file in self.files]
        images = loaded[0]
        for one in loaded[1:]:
            images = graph.add("ImageBatch", image1=images, image2=one)
        return images


@dataclass(frozen=True)
class Classes:
    """Two texts that a CLIP tells these pictures apart by, and the number of the text that it takes each for."""

    texts: tuple[str, str]
    labels: list[int]
    names: tuple[str, str] = ("left", "right")

    @property
    def lines(self) -> str:
        return "\n".join(f"{name} = {text}" for name, text in zip(self.names, self.texts, strict=True))

    @property
    def seen(self) -> list[str]:
        return [self.names[label] for label in self.labels]

    @property
    def counts(self) -> list[int]:
        return [self.labels.count(0), self.labels.count(1)]

    @property
    def deviation_ratio(self) -> float:
        return abs(2 * self.counts[0] / len(self.labels) - 1)


def telling_apart(pictures: torch.Tensor, texts: torch.Tensor, wrong: Sequence[torch.Tensor] = ()) -> Classes:
    """Of all pairs of texts (of the first WORDS) the one that parts the pictures most clearly, and into two parts.

    What `wrong` embeddings of the texts make of the pictures is something else.
    """
    cosines, *others = (torch.cosine_similarity(pictures[:, None], one[None], dim=-1) for one in (texts, *wrong))
    best, chosen = -1.0, None
    for a, b in combinations(range(len(texts)), 2):
        margins = cosines[:, a] - cosines[:, b]
        labels = (margins < 0).int().tolist()
        mistaken = [(other[:, a] < other[:, b]).int().tolist() for other in others]
        if 0 < sum(labels) < len(labels) and labels not in mistaken and float(margins.abs().min()) > best:
            best, chosen = float(margins.abs().min()), Classes((WORDS[a], WORDS[b]), labels)
    assert chosen is not None
    assert best > 1e-4, "the labels must not hang on rounding"
    return chosen


@pytest.fixture(scope="module")
def folder(bench) -> Path:
    """A small CLIP in transformers' form."""
    return write_clip(bench.server.base_directory / "models" / "clip_vision" / "nets" / "small-clip")


@pytest.fixture(scope="module")
def pictures(bench) -> Pictures:
    return draw(bench, 6, seed=3)


def draw(bench: Bench, number: int, seed: int) -> Pictures:
    """Pictures of large random squares, not square themselves, so that they are cropped."""
    generator = np.random.default_rng(seed)
    home = bench.server.base_directory / "input"
    files = []
    for place in range(number):
        squares = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        files.append(f"squares_{seed}_{place}.png")
        squares.resize((80, 64), Image.Resampling.NEAREST).save(home / files[-1])
    return Pictures(home, files)


@torch.inference_mode()
def judged(folder: Path, pictures: Pictures) -> Classes:
    """What transformers makes of the pictures."""
    inputs = CLIPProcessor.from_pretrained(folder)(
        text=list(WORDS), images=pictures.opened, return_tensors="pt", padding=True
    )
    found = CLIPModel.from_pretrained(folder).eval()(**inputs)
    return telling_apart(found.image_embeds, found.text_embeds)


@dataclass
class Meter:
    """A graph with a Bias Meter, whose outputs are shown."""

    graph: Graph = field(default_factory=Graph)

    def add(self, images: Link, classes: str, **wires: Any) -> Link:
        # Another number each time, so that a graph that ran before runs again.
        settings = {"clip_folder": SMALL, "accumulate": False, "series": next(_fresh)} | wires
        if isinstance(settings.get("names"), str):
            settings["names"] = self.graph.add("PrimitiveStringMultiline", value=settings["names"])
        meter = self.graph.add(METER, images=images, classes=classes, **settings)
        for index in (1, 2, 4):
            self.graph.add("PreviewAny", source=output(meter, index))
        return meter


@dataclass(frozen=True)
class Reading:
    """What a run of a Meter showed."""

    result: Result
    deviation_ratio: float
    steering_accuracy: float
    seen: list[str]
    text: str
    chart: dict[str, str]


def measure(bench: Bench, pictures: Pictures, classes: str, graph: Graph | None = None, **wires: Any) -> Reading:
    meter = Meter(graph if graph is not None else Graph())
    node = meter.add(pictures.load(meter.graph), classes, **wires)
    return reading(bench.run(meter.graph), node)


def reading(result: Result, meter: Link) -> Reading:
    ratio, accuracy, seen = (result.outputs[str(int(meter[0]) + place)]["text"][0] for place in (1, 2, 3))
    ui = result.outputs[meter[0]]
    return Reading(result, float(ratio), float(accuracy), seen.splitlines(), ui["text"][0], ui["images"][0])


def refusal(bench: Bench, pictures: Pictures, classes: str = "a woman\na man", **wires: Any) -> str:
    """The sentence with which the node refuses; the server must be alive after it."""
    meter = Meter()
    meter.add(pictures.load(meter.graph), classes, **wires)
    error = bench.error(meter.graph)
    assert error.node_type == METER
    assert error.exception_type in ("respodiff.ClassifierError", "respodiff.BatchSizeError")
    assert bench.server.get_json("/system_stats")
    return error.message


class TestCounts:
    def test_labels_are_those_of_transformers(self, bench, folder, pictures):
        classes = judged(folder, pictures)
        found = measure(bench, pictures, classes.lines)
        assert found.seen == classes.seen
        assert found.deviation_ratio == pytest.approx(classes.deviation_ratio)
        assert found.steering_accuracy == -1, "nothing was asked for"
        assert f"Classified by {SMALL}." in found.text

    def test_the_node_shows_text_and_chart(self, bench, folder, pictures):
        classes = judged(folder, pictures)
        found = measure(bench, pictures, classes.lines)
        left, right = classes.counts
        assert found.text.startswith(
            f"6 images, seen as: left {left} ({left / 6:.0%}), right {right} ({right / 6:.0%})"
        )
        chart = Image.open(bench.server.output_path(found.chart))
        assert chart.width > chart.height > 200
        assert len(chart.getcolors(chart.width * chart.height)) > 10

    def test_names_give_the_steering_accuracy(self, bench, folder, pictures):
        classes = judged(folder, pictures)
        right = classes.counts[1]
        asked = list(classes.seen)
        asked[classes.labels.index(0)] = "right"
        found = measure(bench, pictures, classes.lines, names="\n".join(asked))
        assert found.steering_accuracy == pytest.approx(right / (right + 1))
        assert f"right requested: {right + 1}, seen as left 1, right {right} ({right / (right + 1):.2f})" in found.text
        asked[classes.labels.index(0)] = "none"
        found = measure(bench, pictures, classes.lines, names="\n".join(asked))
        assert found.steering_accuracy == 1
        assert "no class requested: 1, seen as left 1" in found.text

    def test_fair_batch_tells_what_was_asked_for_and_grid_shows_what_was_seen(self, bench, folder, pictures):
        classes = judged(folder, pictures)
        bench.save_adapter(make_adapter("sd15", "Left", "other", category="fairness"))
        graph = Graph()
        adapter = graph.add("RespoDiffLoadAdapter", adapter="test.safetensors")
        group = graph.add("RespoDiffFairGroup", adapter=adapter, concept="(all of them)", share=1.0, strength=1.0)
        fair = graph.add(
            "RespoDiffFairBatch",
            model=load_unet(graph, "sd15"),
            none_share=0.0,
            allocation="balanced",
            seed=0,
            batch_size=6,
            **{"groups.group0": group},
        )
        meter = Meter(graph)
        images = pictures.load(graph)
        node = meter.add(images, classes.lines, names=output(fair, 2))
        graph.add("RespoDiffGrid", images=images, labels=output(node, 4))
        found = reading(bench.run(graph), node)
        assert "left requested: 3" in found.text
        assert "no class requested: 3" in found.text
        assert "Not in classes: other. These images count as unsteered." in found.text


class TestAccumulate:
    def test_runs_add_up_and_another_series_starts_from_zero(self, bench, folder, pictures):
        lines = judged(folder, pictures).lines
        batches = [draw(bench, 2, seed=seed) for seed in (20, 21, 22)]
        alone = [measure(bench, batch, lines).seen for batch in batches]
        for number, batch in enumerate(batches, start=1):
            found = measure(bench, batch, lines, accumulate=True, series=7)
            left = [name for seen in alone[:number] for name in seen].count("left")
            assert found.text.startswith(f"{2 * number} images, seen as: left {left} ")
            assert found.seen == alone[number - 1], "SEEN is of this batch"
            assert found.deviation_ratio == pytest.approx(abs(left / number - 1))
        assert measure(bench, batches[0], lines, accumulate=True, series=8).text.startswith("2 images")
        assert measure(bench, draw(bench, 2, seed=23), lines, accumulate=True, series=7).text.startswith("8 images")

    def test_a_batch_is_counted_once_and_the_node_runs_all_the_same(self, bench, folder, pictures):
        lines = judged(folder, pictures).lines
        graph = self.graph(pictures, lines, accumulate=True)
        results = [bench.run(graph) for _ in range(2)]
        first, again = (result.outputs[graph.id_of(METER)]["text"][0].splitlines() for result in results)
        assert graph.id_of(METER) not in results[1].cached
        assert first == again[:-1]
        assert again[-1] == "This batch was already counted; it counts only once."

    def test_without_it_nothing_is_kept_and_nothing_runs_twice(self, bench, folder, pictures):
        lines = judged(folder, pictures).lines + "\nthird = night"
        graph = self.graph(pictures, lines)
        bench.run(graph)
        assert graph.id_of(METER) in bench.run(graph).cached
        assert measure(bench, draw(bench, 2, seed=30), lines).text.startswith("2 images")
        assert measure(bench, draw(bench, 2, seed=31), lines, accumulate=True).text.startswith("2 images")

    def graph(self, pictures: Pictures, lines: str, **wires: Any) -> Graph:
        meter = Meter()
        meter.add(pictures.load(meter.graph), lines, **wires)
        return meter.graph

    def test_classes_and_workflows_are_counted_apart(self, bench, folder, pictures):
        lines = judged(folder, pictures).lines

        def total(seed: int, workflow: str, classes: str) -> str:
            graph = self.graph(draw(bench, 2, seed=seed), classes, accumulate=True, series=2)
            pnginfo = {"extra_pnginfo": {"workflow": {"id": workflow}}}
            answer = bench.server.post_json("/prompt", {"prompt": graph, "extra_data": pnginfo})
            result = bench.server.wait(answer["prompt_id"])
            return result.outputs[graph.id_of(METER)]["text"][0].partition(",")[0]

        assert total(40, "one", lines) == "2 images"
        assert total(41, "two", lines) == "2 images"
        assert total(42, "one", lines + "\nthird = night") == "2 images"
        assert total(43, "one", lines) == "4 images"


class TestFolders:
    def options(self, bench: Bench) -> list[str]:
        node = bench.server.get_json(f"/object_info/{METER}")[METER]
        return node["input"]["required"]["clip_folder"][1]["options"]

    def test_whole_clips_are_listed_and_nothing_else(self, bench, folder):
        home = bench.server.base_directory / "models" / "text_encoders"
        for name, config in {"text": '{"model_type": "clip_text_model"}', "broken": "{", "list": "[]"}.items():
            (home / name).mkdir(parents=True)
            (home / name / "config.json").write_text(config)
            save_file({"x": torch.zeros(1)}, home / name / "model.safetensors")
        (home / "empty").mkdir()
        (home / "empty" / "config.json").write_text('{"model_type": "clip"}')
        shutil.copytree(folder, home / "also")
        assert self.options(bench) == [CONNECTED, SMALL, "text_encoders/also"]

    def test_weights_that_were_replaced_are_read_again(self, bench, folder, pictures):
        copy = shutil.copytree(folder, folder.with_name("changing"))
        classes = judged(folder, pictures)
        before = measure(bench, pictures, classes.lines, clip_folder="clip_vision/nets/changing")
        weights = load_file(copy / "model.safetensors")
        weights["text_projection.weight"] *= -1
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
        after = measure(bench, pictures, classes.lines, clip_folder="clip_vision/nets/changing")
        assert before.seen == classes.seen
        assert after.seen == [classes.names[1 - label] for label in classes.labels]

    def test_half_a_clip_is_not_filled_up_with_random_weights(self, bench, folder, pictures):
        half = shutil.copytree(folder, folder.with_name("half"))
        weights = {
            name: v for name, v in load_file(half / "model.safetensors").items() if not name.startswith("vision")
        }
        save_file(weights, half / "model.safetensors", {"format": "pt"})
        assert "is not a complete CLIP model" in refusal(bench, pictures, clip_folder="clip_vision/nets/half")

    def test_files_that_are_missing_or_damaged(self, bench, folder, pictures):
        damaged = shutil.copytree(folder, folder.with_name("damaged"))
        (damaged / "model.safetensors").write_bytes(b"x" * 100)
        assert "cannot be read as a CLIP model" in refusal(bench, pictures, clip_folder="clip_vision/nets/damaged")
        wordless = shutil.copytree(folder, folder.with_name("wordless"))
        (wordless / "tokenizer.json").unlink()
        message = refusal(bench, pictures, clip_folder="clip_vision/nets/wordless")
        assert "is not a complete CLIP model: its tokenizer has no vocabulary" in message
        eyeless = shutil.copytree(folder, folder.with_name("eyeless"))
        (eyeless / "processor_config.json").unlink()
        assert "cannot be read as a CLIP model" in refusal(bench, pictures, clip_folder="clip_vision/nets/eyeless")

    @pytest.mark.parametrize("name", ["clip_vision/gone", "../../secret", ""])
    def test_a_folder_that_is_not_there(self, bench, pictures, name):
        assert f"There is no CLIP folder {name!r}" in refusal(bench, pictures, clip_folder=name)


class TestRefusals:
    @pytest.mark.parametrize(
        ("classes", "says"),
        [("", "there is none"), ("a woman", "only 'a woman'"), ("a woman\nA woman", "Two classes have the name")],
    )
    def test_classes_that_tell_nothing_apart(self, bench, folder, pictures, classes, says):
        assert says in refusal(bench, pictures, classes)

    def test_names_of_another_number(self, bench, folder, pictures):
        assert "There are 6 images but 2 names: connect TEXT" in refusal(bench, pictures, names="woman\nman")

    def test_a_broken_picture(self, bench, folder, pictures):
        meter = Meter()
        broken = meter.graph.add("ProbeBrokenImage", images=pictures.load(meter.graph))
        meter.add(broken, "a woman\na man")
        assert "Image 2 of 6 contains NaN" in bench.error(meter.graph).message

    def test_no_clip_at_all(self, bench, pictures):
        assert "connect both clip_vision and clip, or choose" in refusal(bench, pictures, clip_folder=CONNECTED)


@pytest.fixture(scope="module")
def vision(bench) -> Path:
    return small_clips.write_vision(bench.server.base_directory / "models" / "clip_vision" / "vit_l.pt")


@pytest.fixture(scope="module")
def text(bench, host) -> Path:
    path = bench.server.base_directory / "models" / "text_encoders" / "whole_l.safetensors"
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(768, 768, generator=generator) * 768**-0.5
    return small_clips.write_text(path, small_checkpoint(host, "checkpoints/sd15.safetensors"), projection)


class TestComfyUIsOwn:
    """By Load CLIP Vision and Load CLIP."""

    def wires(self, graph: Graph, text: str, width: int = 768, model_type: str = "clip_vision_model") -> dict[str, Any]:
        """A text half from a file, and a vision half of that width that is not one."""
        vision = graph.add("ProbeClipVision", width=width, model_type=model_type)
        clip = graph.add("CLIPLoader", clip_name=text, type="stable_diffusion")
        return {"clip_folder": CONNECTED, "clip_vision": vision, "clip": clip}

    def refusal(self, bench: Bench, pictures: Pictures, graph: Graph, wires: dict[str, Any]) -> str:
        meter = Meter(graph)
        meter.add(pictures.load(graph), "a woman\na man", **wires)
        error = bench.error(graph)
        assert (error.node_type, error.exception_type) == (METER, "respodiff.ClassifierError")
        assert bench.server.get_json("/system_stats")
        return error.message

    def test_labels_are_those_of_transformers(self, bench, pictures, vision, text):
        few = Pictures(pictures.folder, pictures.files[:3])
        texts = small_clips.read(text, WORDS)
        projection = load_file(text)["text_projection.weight"].float()
        unprojected = torch.linalg.solve(projection, texts.T).T
        classes = telling_apart(small_clips.see(vision, few.opened), texts, [unprojected, unprojected @ projection])
        graph = Graph()
        wires = {
            "clip_folder": CONNECTED,
            "clip_vision": graph.add("CLIPVisionLoader", clip_name=vision.name),
            "clip": graph.add("CLIPLoader", clip_name=text.name, type="stable_diffusion"),
        }
        found = measure(bench, few, classes.lines, graph, **wires)
        assert found.seen == classes.seen
        assert "Classified by text_encoders/whole_l.safetensors." in found.text

    def test_of_sdxls_two_text_encoders_the_second(self, bench, pictures):
        few = WORDS[:4]
        graph = Graph()
        checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name="sdxl.safetensors")
        clip = output(checkpoint, 1)
        for number, word in enumerate(few):
            # Brackets would be weights here.
            plain = word.replace("(", "\\(").replace(")", "\\)")
            graph.add(
                "ProbePooled", conditioning=graph.add("CLIPTextEncode", clip=clip, text=plain), name=f"pooled_{number}"
            )
        bench.run(graph)
        home = bench.server.base_directory / "output"
        texts = torch.cat([load_file(home / f"pooled_{n}.safetensors")["pooled"] for n in range(len(few))])
        colours = torch.stack([torch.from_numpy(np.array(one)) / 255 for one in pictures.opened])
        places = torch.nn.functional.adaptive_avg_pool2d(colours.movedim(-1, 1), 4).flatten(1) - 0.5
        random = torch.randn(48, 1280, generator=torch.Generator().manual_seed(0))
        classes = telling_apart(places @ random, texts)
        graph = Graph()
        checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name="sdxl.safetensors")
        vision = graph.add("ProbeClipVision", width=1280, model_type="clip_vision_model")
        wires = {"clip_folder": CONNECTED, "clip_vision": vision, "clip": output(checkpoint, 1)}
        found = measure(bench, pictures, classes.lines, graph, **wires)
        assert found.seen == classes.seen

    def test_widths_that_differ(self, bench, pictures, text):
        graph = Graph()
        message = self.refusal(bench, pictures, graph, self.wires(graph, text.name, 1024))
        assert "image embeddings have 1024 dimensions, text embeddings 768" in message

    def test_a_checkpoint_of_sd15_has_no_projection(self, bench, pictures):
        graph = Graph()
        wires = self.wires(graph, "whole_l.safetensors")
        wires["clip"] = output(graph.add("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"), 1)
        message = self.refusal(bench, pictures, graph, wires)
        assert message.startswith("sd15.safetensors has no CLIP text projection of width 768")
        assert "openai/clip-vit-large-patch14" in message

    @pytest.mark.parametrize(
        ("projection", "says"),
        [
            (None, "has no CLIP text projection of width 768"),
            (torch.eye(768), "has an empty text projection"),
            (torch.eye(512), "has no CLIP text projection of width 768"),
        ],
    )
    def test_text_encoders_whose_projection_means_nothing(self, bench, pictures, text, projection, says):
        state = {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(3072, 768, dtype=torch.float16)}
        if projection is not None:
            state["text_projection.weight" if len(projection) == 768 else "other.text_projection.weight"] = projection
        save_file(state, text.with_name("bare.safetensors"))
        graph = Graph()
        assert says in self.refusal(bench, pictures, graph, self.wires(graph, "bare.safetensors"))
        bench.server.free_memory()

    def test_a_pickle_does_not_tell_whether_it_has_one(self, bench, pictures, text):
        state = {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(3072, 768), "x": torch.zeros(1)}
        torch.save(state, text.with_name("bare.pt"))
        graph = Graph()
        message = self.refusal(bench, pictures, graph, self.wires(graph, "bare.pt"))
        assert message.startswith("bare.pt is not a safetensors file")

    def test_a_lora_moves_the_ruler(self, bench, pictures, text):
        loras = bench.server.base_directory / "models" / "loras"
        loras.mkdir(exist_ok=True)
        layer = "lora_te_text_model_encoder_layers_0_mlp_fc1"
        save_file(
            {f"{layer}.lora_up.weight": torch.ones(3072, 1), f"{layer}.lora_down.weight": torch.ones(1, 768)},
            loras / "text.safetensors",
        )
        graph = Graph()
        wires = self.wires(graph, text.name)
        changed = graph.add(
            "LoraLoader",
            model=load_unet(graph, "sd15"),
            clip=wires["clip"],
            lora_name="text.safetensors",
            strength_model=1.0,
            strength_clip=1.0,
        )
        wires["clip"] = output(changed, 1)
        assert "clip was modified by a LoRA" in self.refusal(bench, pictures, graph, wires)

    def test_vision_models_that_are_no_clip(self, bench, pictures, text):
        graph = Graph()
        message = self.refusal(bench, pictures, graph, self.wires(graph, text.name, model_type="dinov2"))
        assert "clip_vision is not a CLIP but a dinov2" in message
