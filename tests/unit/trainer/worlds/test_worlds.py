"""The two worlds: which base model shows which, and what each answers where the other answers differently."""

from __future__ import annotations

from typing import get_args

import pytest
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.respodiff_core.learning.presets import PRESETS
from respodiff.trainer.base.spec import BUILT_IN
from respodiff.trainer.recipes.evaluation_recipe import EvalRecipe, Metric, Protocol
from respodiff.trainer.recipes.training_recipe import expand_group
from respodiff.trainer.worlds.image_spec import ImageSpec
from respodiff.trainer.worlds.lookup import own_classifier, world_of
from respodiff.trainer.worlds.photographs import Photographs
from respodiff.trainer.worlds.scorer import Axis
from toyworld_adapters import concept

TOYWORLD, PHOTOGRAPHS = world_of("toyworld"), world_of("runwayml/stable-diffusion-v1-5")
BOTH = pytest.mark.parametrize("world", [TOYWORLD, PHOTOGRAPHS], ids=["toyworld", "photographs"])


def recipe(protocol: Protocol, base: str = "toyworld", **values: object) -> EvalRecipe:
    return EvalRecipe.of({"protocol": protocol, "base": base, "output": "out", **values})


def test_each_built_in_model_has_its_own_world_and_all_others_show_photographs():
    assert {type(world_of(name)) for name in BUILT_IN}.isdisjoint({Photographs})
    assert type(PHOTOGRAPHS) is type(world_of("sdxl")) is type(world_of(None)) is Photographs


@BOTH
def test_each_has_metrics_for_every_protocol_and_presets_for_every_table(world):
    assert world.default_metrics.keys() == set(get_args(Protocol))
    assert {metric for metrics in world.default_metrics.values() for metric in metrics} <= set(get_args(Metric))
    for subject in ("gender", "race", "safety"):
        named = [one["preset"] for name in world.presets(subject) for one in expand_group({"preset": name})]
        assert set(named) <= PRESETS.keys()


@BOTH
def test_the_usual_axes_of_professions_are_known(world):
    assert set(world.usual_axes("winobias")) <= world.axes([]).keys()


def test_photographs_have_no_axis_of_toyworlds_and_it_none_of_theirs():
    assert PHOTOGRAPHS.axes([]).keys().isdisjoint(TOYWORLD.axes([]))


@pytest.mark.parametrize(("protocol", "count"), [("winobias", 16 * 30), ("i2p", 16 * 10), ("coco", 160)])
def test_toyworld_has_counterparts_of_the_protocols(protocol, count):
    specs = TOYWORLD.image_specs(recipe(protocol))
    assert len({spec.id for spec in specs}) == len(specs) == count
    assert all(spec.categories for spec in specs) == (protocol == "i2p")


@BOTH
@pytest.mark.parametrize("protocol", ["i2p", "coco", "prompts"])
def test_a_prompt_file_is_read_alike_in_both(world, protocol, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("prompt,caption,categories\na nurse,a nurse,in a mine\na cook,a cook,\n")
    images = {} if protocol == "coco" else {"images": 1}
    (spec,) = world.image_specs(recipe(protocol, prompts=str(path), limit=1, **images))
    assert isinstance(spec, ImageSpec)
    assert spec.prompt == "a nurse"


def test_what_toyworld_never_saw_is_named_and_photographs_may_show_anything():
    assert "does not know 'astronaut'" in TOYWORLD.objection_to(["a photo of an astronaut"])
    assert TOYWORLD.objection_to(["a photo of a nurse"]) == PHOTOGRAPHS.objection_to(["an astronaut"]) == ""


def test_photographs_are_unsafe_by_nudenet_or_q16():
    about = {name: concept(name, "", category="safety", negative=name).info for name in ("nudity", "violence")}
    assert PHOTOGRAPHS.safety_metrics(about["nudity"], with_q16=False) == ("nudity",)
    assert PHOTOGRAPHS.safety_metrics(about["violence"], with_q16=True) == ("q16",)
    with pytest.raises(RespoDiffError, match="'violence' is not about nudity"):
        PHOTOGRAPHS.safety_metrics(about["violence"], with_q16=False)
    assert TOYWORLD.safety_metrics(about["violence"], with_q16=False) == ("labels",)


def test_a_built_in_classifier_is_found_by_its_name_alone():
    shape = TOYWORLD.axes([])["shape"]
    assert own_classifier("toyworld", (shape,)).name == "toyworld"
    assert own_classifier("clip", (shape,)) is None
    assert own_classifier("mine:judge", (shape,)) is None
    with pytest.raises(RespoDiffError, match="does not know gender"):
        own_classifier("toyworld", (Axis("gender", ("woman", "man"), ("a woman", "a man")),))


def test_titles():
    assert TOYWORLD.title("winobias", "toyworld") == "ToyWorld's professions"
    assert PHOTOGRAPHS.title("winobias", "base") == "Professions (WinoBias) on base"
    assert PHOTOGRAPHS.title("unknown", "base") == "unknown on base"
