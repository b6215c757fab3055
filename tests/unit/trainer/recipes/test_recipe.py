"""A recipe: presets, defaults, flags over files, and every mistake named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_reference import FILE, reference
from respodiff.respodiff_core.learning.presets import PRESETS
from respodiff.trainer.recipes.plan import assemble
from respodiff.trainer.recipes.strict import RecipeError
from respodiff.trainer.recipes.training_recipe import Recipe, read_toml

BASE = {"base": "toyworld", "output": "a.safetensors"}


def recipe(*concepts, **more) -> Recipe:
    return Recipe.of({**BASE, "concepts": list(concepts), **more})


def refused(*concepts, **more) -> str:
    with pytest.raises(RecipeError) as error:
        recipe(*concepts, **more)
    return str(error.value)


def test_presets_hold_the_papers_values():
    woman, man, violence = recipe(
        {"preset": "gender/woman"}, {"preset": "gender/man"}, {"preset": "safety/violence"}
    ).concepts
    assert (woman.target, woman.neutral, woman.negative, woman.guidance) == ("a woman", ("a person",), "", 4)
    assert (woman.ram_rate, woman.sam_rate, man.sam_rate) == (1e-2, 1e-3, 1e-4)
    assert (violence.target, violence.negative, violence.neutral) == ("", "violence", ("a scene",))
    assert (violence.category, violence.guidance) == ("safety", 12)


def test_every_preset_is_a_recipe():
    for name in PRESETS:
        assert recipe({"preset": name}).concepts[0].name == name.partition("/")[2]


def test_a_group_of_presets_is_all_of_them():
    assert [concept.name for concept in recipe({"preset": "race"}).concepts] == ["white", "black", "asian"]


def test_values_of_ones_own_go_before_a_presets():
    (concept,) = recipe(
        {"preset": "gender/woman", "name": "she", "neutral": ["a doctor", "a nurse"], "steps": 7}
    ).concepts
    assert (concept.name, concept.neutral, concept.steps) == ("she", ("a doctor", "a nurse"), 7)
    assert concept.target == "a woman"


def test_a_concept_of_ones_own_needs_a_direction():
    towards, away = recipe({"name": "x", "target": "a cat"}, {"name": "y", "negative": "a dog"}).concepts
    assert (towards.category, towards.guidance) == ("fairness", 4)
    assert (away.category, away.guidance) == ("safety", 12)
    assert "no prompts" in refused({"name": "x"})
    assert "neutral prompt is empty" in refused({"name": "x", "target": "a cat", "neutral": " "})


def test_steps_of_the_training_are_those_of_concepts_that_name_none():
    one, other = recipe(
        {"name": "x", "target": "a"}, {"name": "y", "target": "b", "steps": 3}, training={"steps": 50}
    ).concepts
    assert (one.steps, other.steps) == (50, 3)


@pytest.mark.parametrize(
    ("concept", "more", "said"),
    [
        ({"name": "x", "traget": "a"}, {}, "concepts.1.traget: there is no such setting; did you mean target?"),
        ({"preset": "gendr/woman"}, {}, "did you mean gender/woman?"),
        ({"preset": "gender/woman", "ram_rate": -1}, {}, "concepts.1.ram_rate"),
        ({"preset": "gender/woman", "guidance": float("nan")}, {}, "concepts.1.guidance"),
        ({"preset": "gender/woman", "name": "a/b"}, {}, "'/'"),
        ({"preset": "gender/woman", "axis": "x" * 65}, {}, "An axis must be at most 64 printable characters"),
        (
            {"preset": "gender/woman"},
            {"training": {"batch": 3, "pool": 8}},
            "the pool (8) must be a multiple of the batch size (3)",
        ),
        ({"preset": "gender/woman"}, {"training": {"kind": "lora"}}, "training.kind"),
        ({"preset": "gender/woman"}, {"training": {"width": 512}}, "width and height together"),
        ({"preset": "gender/woman"}, {"training": {"rollout": "reference", "update": "joint"}}, "sequential"),
        ({"preset": "gender/woman"}, {"output": "a.pth"}, "must end in .safetensors"),
        ({"preset": "gender/woman"}, {"trainng": {}}, "did you mean training?"),
    ],
)
def test_a_mistake_is_named_with_its_place(concept, more, said):
    assert said in refused(concept, **more)


def test_the_pool_fits_the_batch_unless_it_is_given():
    pools = {batch: recipe({"preset": "gender"}, training={"batch": batch}).training.pool for batch in (1, 3, 4, 16)}
    assert pools == {1: 16, 3: 15, 4: 16, 16: 16}


def test_sizes_are_in_pixels():
    training = recipe({"preset": "gender"}, training={"width": 768, "height": 512}).training
    assert training.latent_size("sd15") == (64, 96)
    assert training.latent_size("toyworld") == (128, 192)


def test_concepts_and_sections_must_be_tables():
    for concepts in ({"preset": "gender"}, ["gender"], 3):
        with pytest.raises(RecipeError, match=r"\[\[concepts\]\]"):
            Recipe.of({**BASE, "concepts": concepts, "training": {"steps": 3}})
    with pytest.raises(RecipeError, match=r"\[training\]"):
        Recipe.of({**BASE, "concepts": [{"preset": "gender"}], "training": 3})


def test_a_name_comes_once():
    assert "woman occurs twice" in refused({"preset": "gender/woman"}, {"preset": "gender"})


def test_previews_of_a_safety_concept_with_a_negative_strength_are_refused_before_training():
    previews = {"every": 10, "strengths": [-1.0, 1.0]}
    assert "safety concepts (violence)" in refused({"preset": "safety/violence"}, previews=previews)
    assert recipe({"preset": "gender/woman"}, previews=previews).previews.strengths == (-1.0, 1.0)


def test_the_example_shows_every_setting_with_its_default():
    assert FILE.read_text("utf-8") == reference(), "run tools/recipe_reference.py"
    shown = Recipe.of(read_toml(FILE))
    for section in ("training", "saving", "previews", "about"):
        assert getattr(shown, section) == Recipe.model_fields[section].default
    assert shown.concepts[1] == recipe({"name": "elderly", "target": "an old person"}).concepts[0]


def test_flags_go_before_the_file(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(
        'base = "toyworld"\noutput = "a.safetensors"\n[training]\nbatch = 2\nseed = 5\n'
        '[[concepts]]\npreset = "toyworld/round"\n[[concepts]]\npreset = "toyworld/square"\n'
    )
    plan = assemble(
        tmp_path / "recipe.toml",
        top={"base": None, "output": "b.safetensors"},
        concept={"steps": 9},
        presets=[],
        sections={"training": {"batch": 8, "seed": None}},
    )
    assert (plan.base, plan.output) == ("toyworld", Path("b.safetensors"))
    assert [concept.steps for concept in plan.concepts] == [9, 9]
    assert (plan.training.batch, plan.training.seed) == (8, 5)


def test_paths_in_a_file_are_meant_from_its_folder(tmp_path: Path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "recipe.toml").write_text('base = "model.safetensors"\noutput = "a.safetensors"\n')
    values = read_toml(tmp_path / "recipe.toml")
    assert values == {"base": str(tmp_path / "model.safetensors"), "output": str(tmp_path / "a.safetensors")}


def test_a_file_that_is_missing_or_not_toml_is_a_sentence(tmp_path: Path):
    with pytest.raises(RecipeError, match="There is no recipe"):
        read_toml(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(RecipeError, match="not valid TOML"):
        read_toml(tmp_path / "bad.toml")


def test_prompts_as_flags_make_a_concept_called_like_its_file():
    plan = assemble(
        None,
        top={**BASE, "output": "old.safetensors"},
        concept={"target": "an old person", "neutral": ["a person", "people"], "name": None},
        presets=[],
        sections={},
    )
    (concept,) = plan.concepts
    assert (concept.name, concept.target, concept.neutral) == ("old", "an old person", ("a person", "people"))


def test_a_name_taken_from_the_file_is_one_that_may_be():
    top = {**BASE, "output": "woman_v1.5.safetensors"}
    plan = assemble(None, top=top, concept={"target": "a woman"}, presets=[], sections={})
    assert plan.concepts[0].name == "woman_v1_5"


def test_nothing_to_train_is_said():
    with pytest.raises(RecipeError, match="nothing to train"):
        assemble(None, top=BASE, concept={}, presets=[], sections={})


def test_one_name_cannot_be_given_to_several():
    with pytest.raises(RecipeError, match="several"):
        assemble(None, top=BASE, concept={"name": "x"}, presets=["gender"], sections={})
