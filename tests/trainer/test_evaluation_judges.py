"""The published protocols on a small random Stable Diffusion, judged by networks of the real kinds, end to end."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.respodiff_core.adapter.concept import Concept, ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.evaluation.run import evaluate
from respodiff.trainer.recipes.evaluation_recipe import EvalRecipe
from respodiff.trainer.toyworld import networks
from small_bases import Networks
from small_judges import DIMENSION, write_clip, write_dino

DRAWING = {"schedule_steps": 2, "batch": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A base model, CLIP, DINO, an adapter for gender and one for safety, Q16's prompts and a network for FID."""
    folder = tmp_path_factory.mktemp("models")
    Networks("sd15", networks.write_tokenizer(folder / "tokenizer")).save(folder / "base")
    write_clip(folder / "clip")
    write_dino(folder / "dino")
    generator = torch.Generator().manual_seed(1)

    def concept(name: str, **facts: str) -> Concept:
        ram, sam = (Transform.of({"": torch.randn(64, 1, 1, generator=generator)}) for _ in range(2))
        return ModuleConcept(ConceptInfo(name, **facts), ram, sam)

    women = {"category": "fairness", "axis": "gender", "neutral": "a person"}
    fair = [concept("woman", target="a woman", **women), concept("man", target="a man", **women)]
    safe = [concept("violence", category="safety", negative="violence")]
    for name, concepts in (("gender", fair), ("safety", safe)):
        adapter = Adapter("sd15", {one.name: one for one in concepts}, "epsilon")
        write(adapter, folder / f"{name}.safetensors")
    np.save(folder / "q16.npy", np.random.default_rng(0).normal(size=(2, DIMENSION)).astype("f4"))

    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(2).mean(-1)

    torch.jit.script(Means()).save(folder / "means.pt")
    real = folder / "real"
    real.mkdir()
    for number in range(6):
        colours = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(colours).save(real / f"{number}.png")
    return folder


def recipe(models: Path, output: Path, adapter: str, **values: object) -> EvalRecipe:
    steered = {"name": adapter, "adapters": [str(models / f"{adapter}.safetensors")]}
    scoring = {"clip": str(models / "clip"), "dino": str(models / "dino"), **values.pop("scoring", {})}
    return EvalRecipe.of(
        {
            "base": str(models / "base"),
            "output": str(output),
            "variants": [{"name": "unsteered"}, steered],
            "sampling": DRAWING,
            "scoring": scoring,
            **values,
        }
    )


@pytest.fixture(scope="module")
def winobias(models, tmp_path_factory) -> tuple[Path, Results]:
    """The folder of an evaluation, and what it found."""
    folder = tmp_path_factory.mktemp("winobias") / "out"
    results = evaluate(recipe(models, folder, "gender", protocol="winobias", images=10), shown=False)
    assert results is not None
    return folder, results


def test_winobias_is_judged_by_clip_and_dino(winobias):
    folder, results = winobias
    unsteered, steered = results.variants.values()
    assert steered.images == 360
    assert len(steered.groups) == 36
    assert {"deviation ratio/gender", "alignment", "distance", "change"} <= steered.named.keys()
    assert steered.named["steering accuracy/gender/woman"].count == 180
    assert steered.named["distance"].value > 0
    assert unsteered.named.keys() >= {"deviation ratio/gender", "alignment"}
    assert "distance" not in unsteered.named
    with open(folder / "images.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "gender"]
    hits = [row["label:gender"] == row["wanted:gender"] for row in rows if row["wanted:gender"] == "man"]
    assert steered.named["steering accuracy/gender/man"].value == pytest.approx(np.mean(hits))


def test_scores_do_not_depend_on_where_a_run_was_stopped(models, winobias, tmp_path):
    """CLIP's texts are encoded by themselves: with half of the scores gone the tables come out the same."""
    shutil.copytree(winobias[0], tmp_path / "out")
    plan = recipe(models, tmp_path / "out", "gender", protocol="winobias", images=10)
    tables = [(tmp_path / "out" / name).read_text() for name in ("images.csv", "figures.json")]
    for scores in (tmp_path / "out" / "scores").iterdir():
        lines = scores.read_bytes().split(b"\n")
        scores.write_bytes(b"\n".join(lines[: len(lines) // 2]))
    evaluate(plan, shown=False)
    assert [(tmp_path / "out" / name).read_text() for name in ("images.csv", "figures.json")] == tables


def test_i2p_is_judged_by_nudenet_and_q16_in_each_category(models, tmp_path):
    (tmp_path / "i2p.csv").write_text('prompt,categories\na person,"hate, violence"\na scene,violence\n')
    asked = {"protocol": "i2p", "prompts": str(tmp_path / "i2p.csv")}
    scoring = {"q16_prompts": str(models / "q16.npy"), "q16_clip": str(models / "clip")}
    results = evaluate(recipe(models, tmp_path / "out", "safety", scoring=scoring, **asked), shown=False)
    overall = results.variants["safety"].named
    assert {"nudity", "q16", "flagged", "flagged/hate", "flagged/violence", "change"} <= overall.keys()
    assert (overall["flagged"].count, overall["flagged/hate"].count) == (10, 5)
    assert overall["flagged/violence"].value == overall["flagged"].value
    assert overall["flagged"].value >= max(overall["nudity"].value, overall["q16"].value)


def test_coco_has_a_clip_score_and_fid(models, tmp_path):
    (tmp_path / "captions.txt").write_text("a person in a park\na scene\na person\n")
    asked = {"protocol": "coco", "prompts": str(tmp_path / "captions.txt")}
    scoring = {"reference": str(models / "real"), "inception": str(models / "means.pt")}
    results = evaluate(recipe(models, tmp_path / "out", "gender", scoring=scoring, **asked), shown=False)
    for setting in results.variants.values():
        assert setting.named["fid"].value > 0
        assert setting.named["fid"].low is None
        assert setting.named["alignment"].count == 3


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        ({"clip": "/nowhere/clip"}, "/nowhere/clip could not be loaded"),
        ({"classifier": "nowhere:judge"}, "nowhere:judge cannot be imported"),
        ({"metrics": ["fid"], "reference": "nowhere"}, "nowhere does not exist: FID needs real images"),
    ],
)
def test_a_judge_that_cannot_be_had_is_said_before_anything_is_drawn(models, tmp_path, scoring, said, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RespoDiffError, match=said):
        evaluate(recipe(models, tmp_path / "out", "gender", protocol="winobias", scoring=scoring), shown=False)
    assert not (tmp_path / "out" / "images").exists()
