"""Flags come from the settings of recipes: one field brings its flag, help, choices, default and recipe key."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic.dataclasses import dataclass
from respodiff.respodiff_core.learning.settings import TrainingSettings, setting
from respodiff.trainer.commands.app import app
from respodiff.trainer.commands.eval import NOT_FLAGS
from respodiff.trainer.commands.flags import Panel, with_settings
from respodiff.trainer.commands.options import model_settings
from respodiff.trainer.experiments.ablation import read_variants
from respodiff.trainer.recipes.evaluation_recipe import EvalRecipe, SamplingRecipe, ScoringRecipe, VariantRecipe
from respodiff.trainer.recipes.strict import STRICT, fields_of
from respodiff.trainer.recipes.training_recipe import SECTIONS, TrainingRecipe
from typer.testing import CliRunner


@dataclass(frozen=True, config=STRICT)
class Noisy(TrainingSettings):
    """A training with a new setting: one field."""

    eta: float = setting(0.0, "Noise that each sampling step adds.", ge=0, le=1)
    noise: Literal["white", "pink"] = setting("white", "Kind of the noise.")
    colour: Literal["ultramarine", "vermilion"] = setting("vermilion", "Colour of the noise.")
    tone: Literal["ultramarine", "vermilion"] = setting("vermilion", "Warm (vermilion) or cold (ultramarine).")
    loud: bool = setting(False, "Shout.")
    words: tuple[str, ...] = setting((), "Word that is whispered.")
    scales: dict[str, float] = setting({}, "Factor of an axis.")
    classes: dict[str, dict[str, str]] = setting({}, "Class of an axis.", notes={"flag": "--class"})


def run(*arguments: str) -> tuple[Any, dict[str, Any]]:
    given: dict[str, Any] = {}

    @with_settings(Panel("training", "Training", Noisy))
    def command(settings, output: Path = Path("out")):
        given.update(settings["training"], output=output)

    own = typer.Typer()
    own.command()(command)
    return CliRunner().invoke(own, list(arguments), env={"COLUMNS": "200"}), given


def test_a_new_field_is_a_flag_with_help_choices_and_default():
    help_text = " ".join(run("--help")[0].output.split())
    assert "--eta <float> Noise that each sampling step adds. [default: 0]" in help_text
    assert "--noise <white|pink> Kind of the noise. [default: white]" in help_text
    assert "--colour <choice> Colour of the noise. One of: ultramarine, vermilion. [default: vermilion]" in help_text
    assert "--tone <choice> Warm (vermilion) or cold (ultramarine). [default: vermilion]" in help_text
    assert "--loud --no-loud Shout. [default: off]" in help_text
    assert "--word <str> Word that is whispered. May be repeated." in help_text


def test_only_flags_that_were_given_are_settings():
    done, given = run("--eta", "0.5", "--word", "a", "--word", "b", "--output", "there")
    assert done.exit_code == 0
    assert given == {"eta": 0.5, "words": ["a", "b"], "output": Path("there")}
    assert run()[1] == {"output": Path("out")}


def test_tables_are_given_name_by_name():
    _, given = run("--scale", "gender=0.7", "--class", "hat.none=no hat", "--class", "hat.tall=a tall hat")
    assert given["scales"] == {"gender": "0.7"}
    assert given["classes"] == {"hat": {"none": "no hat", "tall": "a tall hat"}}
    assert Noisy(**{key: given[key] for key in ("scales", "classes")}).scales == {"gender": 0.7}
    done, _ = run("--scale", "gender")
    assert done.exit_code == 2
    assert "NAME=VALUE" in done.output


def test_a_choice_that_there_is_not_is_refused_with_those_there_are():
    done, given = run("--noise", "brown")
    assert (done.exit_code, given) == (2, {})
    assert "'white', 'pink'" in done.output


@pytest.mark.parametrize(
    ("command", "tables"),
    [
        ("train", [(table, ()) for table in SECTIONS.values()]),
        (
            "eval",
            [(VariantRecipe, ("strength",)), (EvalRecipe, NOT_FLAGS), (SamplingRecipe, ()), (ScoringRecipe, ())],
        ),
    ],
)
def test_every_setting_has_a_flag(command, tables):
    made = next(one.callback for one in app.registered_commands if one.callback.__name__.startswith(command))
    parameters = {name.partition("_")[2] for name in made.__annotations__} | set(made.__annotations__)
    for table, without in tables:
        assert fields_of(table).keys() - set(without) <= parameters
        for name, field in fields_of(table).items():
            assert field.description or name in without, f"{table.__name__}.{name} says nothing"


def test_what_runs_the_base_model_is_meant_for_training_as_well():
    given = {"device": "cpu", "precision": "bfloat16", "prediction": "v", "width": 256, "height": 256}
    chosen = model_settings({"sampling": {**given, "guidance": 5.0, "batch": 2, "schedule_steps": 10}})
    assert chosen == given
    TrainingRecipe(**chosen)


def test_help_names_every_variant_of_an_ablation():
    result = CliRunner().invoke(app, ["ablate", "--help"], env={"COLUMNS": "200"})
    said = " ".join(re.sub("[^A-Za-z0-9+]", " ", result.output).split())
    variants = read_variants(None, [])
    assert all(name in said for name in variants)
    trained = sum(one.is_trained for one in variants.values())
    assert f"{trained} are trained with 3 seeds {3 * trained} trainings" in said


def test_settings_of_the_core_are_those_of_recipes():
    core = {one.name for one in dataclasses.fields(TrainingSettings)}
    assert core < fields_of(SECTIONS["training"]).keys()
