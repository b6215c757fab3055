"""`respodiff ablate`, `reproduce` and `calibrate` on ToyWorld from end to end, with as little training as can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from respodiff.respodiff_core.adapter.adapter import Adapter, read, write
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.respodiff_core.learning.presets import PRESETS
from respodiff.trainer.commands.app import app
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.experiments.reproduction import Reproduction
from respodiff.trainer.experiments.trained_adapters import trained
from respodiff.trainer.recipes.training_recipe import Recipe
from toyworld_adapters import concept, shape_adapter
from typer.testing import CliRunner

QUICK = ("--sampling-steps", "2", "--batch", "32", "--device", "cpu")


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def figures(done) -> dict:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ablation(tmp_path_factory) -> Path:
    """Two variants, two seeds, two training steps."""
    folder = tmp_path_factory.mktemp("ablation")
    variants = ("--variant", "RAM + SAM", "--variant", "one shared module")
    command = ("ablate", "--base", "toyworld", "-o", folder, "--seeds", 2, "--training-steps", 2, *variants, *QUICK)
    found = figures(run(*command))
    assert list(found) == ["unsteered", "RAM + SAM", "one shared module"]

    made = {path: path.stat().st_mtime_ns for path in folder.glob("adapters/*.safetensors")}
    assert len(made) == 4
    assert figures(run(*command)) == found
    assert {path: path.stat().st_mtime_ns for path in made} == made, "nothing is trained twice"
    return folder


def test_an_ablation_is_a_table_of_means_over_seeds_with_all_variants_on_the_same_pictures(ablation):
    table = (ablation / "ablation.md").read_text()
    assert "| unsteered |" in table
    assert "| one shared module |" in table
    assert "<svg" in (ablation / "ablation.svg").read_text()
    seeds = [Results.read(ablation / f"seed {seed}") for seed in (0, 1)]
    assert [list(one.variants) for one in seeds] == [["unsteered", "RAM + SAM", "one shared module"]] * 2
    ratio = "deviation ratio/shape"
    (line,) = (
        line for line in (ablation / "ablation.csv").read_text().splitlines() if line.startswith(f"unsteered,{ratio},")
    )
    mean, *_ = map(float, line.split(",")[2:])
    assert mean == pytest.approx(sum(one.variants["unsteered"].named[ratio].value for one in seeds) / 2, abs=1e-5)


def test_a_shared_module_is_kept_as_ram(ablation):
    adapter = read(ablation / "adapters" / "one shared module, seed 0.safetensors")
    for one in adapter.concepts.values():
        assert one.ram.tensors[""].any()
        assert not one.sam.tensors[""].any()
        assert one.info.training["update"] == "shared"


def test_an_ablation_of_other_trainings_is_refused_in_the_same_folder(ablation):
    done = run("ablate", "--base", "toyworld", "-o", ablation, "--training-steps", 3, "--variant", "RAM + SAM", *QUICK)
    assert done.exit_code == 1
    assert "was made with other settings" in done.output


def test_what_the_refusal_names_is_enough_to_train_with_other_settings(tmp_path):
    def recipe(steps: int) -> Recipe:
        concept = {"preset": "toyworld/round", "steps": steps}
        return Recipe.of({"base": "toyworld", "output": str(tmp_path / "round.safetensors"), "concepts": [concept]})

    adapter = trained(recipe(1))
    assert trained(recipe(1)) == adapter
    with pytest.raises(RespoDiffError, match=r"or delete round\.safetensors, round\.run\.$"):
        trained(recipe(2))
    adapter.unlink()
    shutil.rmtree(adapter.with_suffix(".run"))
    assert read(trained(recipe(2))).concept("round").info.training["steps"] == 2


def test_a_limit_is_for_data_sets_and_prompts_are_for_safety(tmp_path):
    plan = Reproduction("gender", "toyworld", tmp_path, limit=10, reference=tmp_path)
    limits = {name: recipe.limit for name, recipe in plan.evaluations(tmp_path / "gender.safetensors").items()}
    assert limits == {"winobias": None, "coco": 10}
    for flag, value in (("--prompts", tmp_path / "mine.txt"), ("--limit", 10)):
        done = run("reproduce", "gender", "--base", "toyworld", "-o", tmp_path, flag, value)
        assert done.exit_code == 1
        assert f"{flag} is for" in " ".join(done.output.split())


def test_a_file_that_was_trained_elsewhere_is_never_replaced(tmp_path):
    mine = shape_adapter(tmp_path / "gender.safetensors")
    before = mine.read_bytes()
    done = run("reproduce", "gender", "--base", "toyworld", "-o", tmp_path, *QUICK)
    assert done.exit_code == 1
    assert "was not made by this command" in " ".join(done.output.split())
    assert mine.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variant", "RAN"], "There is no variant 'RAN'; there are: RAM + SAM, RAM alone"),
        (["--preset", "toyworld/round", "--preset", "toyworld/teal"], "about the groups of one axis"),
        (["--preset", "toyworld/rund"], "There is no preset 'toyworld/rund'"),
        (["--images", "15"], "3 images of each prompt cannot be divided evenly among 2 groups"),
        (["--clip", "nowhere", "--images", "7"], "cannot be divided among 5 prompts"),
    ],
)
def test_an_ablation_of_nothing_known_is_refused(tmp_path, arguments, said):
    done = run("ablate", "--base", "toyworld", "-o", tmp_path / "out", *arguments)
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())


@pytest.mark.parametrize(("table", "column", "images"), [("race", "deviation", 15), ("safety", "flagged", 10)])
def test_a_table_of_the_paper_is_trained_measured_and_set_beside_the_published_rows(
    tmp_path, table, column, images, monkeypatch
):
    short = {name: {**one, "steps": 2} for name, one in PRESETS.items()}
    monkeypatch.setattr("respodiff.respodiff_core.learning.presets.PRESETS", short)
    done = run("reproduce", table, "--base", "toyworld", "-o", tmp_path / "out", "--images", images, *QUICK)
    found = figures(done)
    assert column in found["base, ours"]
    assert column in found["RespoDiff, ours"]
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| RespoDiff, published |" in text
    assert "not to be compared" in text
    assert read(tmp_path / "out" / f"{table}.safetensors").family == "toyworld"


def test_there_are_three_tables():
    done = run("reproduce", "age", "--base", "toyworld")
    assert done.exit_code == 2
    assert "is not one of 'gender', 'race'" in done.output


def test_a_calibration_writes_what_it_found_and_draws_nothing_twice(tmp_path):
    """Random vectors show nothing reliably: it says so, and recommends the strength that came nearest."""
    path = shape_adapter(tmp_path / "shape.safetensors")
    command = ("calibrate", path, "--base", "toyworld", "--images", 16, *QUICK)
    done = run(*command, "-o", tmp_path / "out.safetensors")
    found = figures(done)
    adapter = read(tmp_path / "out.safetensors")
    assert {name: one.info.strength for name, one in adapter.concepts.items()} == {
        name: found[name]["strength"] for name in ("round", "square")
    }
    kept = (tmp_path / "out.calibration.jsonl").read_bytes()
    again = run(*command, "-o", tmp_path / "out.safetensors")
    assert again.exit_code == 1
    assert "already exists" in again.output
    assert figures(run(*command, "-o", tmp_path / "out.safetensors", "--force")) == found
    assert (tmp_path / "out.calibration.jsonl").read_bytes() == kept


def test_safety_is_calibrated_on_what_the_model_draws_unsafe_by_itself(tmp_path):
    """A vector of zeros takes no hazard away, however strong: on prompts without hazards any strength would do."""
    one = concept("hazard", "", category="safety", negative="hazard")
    nothing = Transform.of({"": torch.zeros_like(one.ram.tensors[""])})
    path = write(
        Adapter("toyworld", {"hazard": replace(one, ram=nothing, sam=nothing)}, "epsilon"), tmp_path / "a.safetensors"
    )
    command = ("calibrate", path, "--base", "toyworld", "--images", 16, "--accuracy", 0.9)
    done = run(*command, "-o", tmp_path / "out.safetensors", "--sampling-steps", 10, "--batch", 32, "--device", "cpu")
    found = figures(done)
    assert found["hazard"]["accuracy"] == 0
    assert "hazard: no strength reaches the requested accuracy of 90%" in done.output


def test_what_no_classifier_can_tell_apart_is_not_calibrated(tmp_path):
    one = concept("glasses", "", category="other")
    path = write(Adapter("toyworld", {"glasses": one}, "epsilon"), tmp_path / "glasses.safetensors")
    done = run("calibrate", path, "--base", "toyworld", "-o", tmp_path / "out.safetensors", "--device", "cpu")
    assert done.exit_code == 1
    assert "has nothing to calibrate" in done.output
    assert not (tmp_path / "out.safetensors").exists()


def test_both_methods_are_compared_with_the_group_named_in_the_prompt(tmp_path):
    variants = tmp_path / "variants.toml"
    variants.write_text(
        "[named]\nnamed = true\n[contrast]\n[contrast.contrast]\nschedule_steps = 2\nseeds = 1\n"
        '[middle]\ncontrast = { schedule_steps = 2, seeds = 1, site = "middle" }\n'
        "[places]\ncontrast = { schedule_steps = 2, seeds = 1, places = 4 }\n"
        "[layers]\nlayers = 4\n"
        "[both]\nboth = true\ncontrast = { schedule_steps = 2, seeds = 1 }\n"
    )
    command = ("ablate", "--base", "toyworld", "-o", tmp_path / "out", "--seeds", 1, "--training-steps", 2)
    command = (*command, "--variants", variants, "--protocol", "equisteer", "--images", 2, *QUICK)
    found = figures(run(*command))
    assert list(found) == ["unsteered", "named", "contrast", "middle", "places", "layers", "both"]
    assert len({json.dumps(one, sort_keys=True) for one in found.values()}) == len(found), "no two are the same"
    assert len(list((tmp_path / "out" / "adapters").glob("*.safetensors"))) == 7
    sites = {
        name: read(tmp_path / "out" / "adapters" / f"{name}, contrast, seed 0.safetensors").concepts["round"].site
        for name in ("contrast", "middle", "places")
    }
    assert sites == {"contrast": "cross-attention", "middle": "middle", "places": "cross-attention"}
    assert figures(run(*command)) == found


def test_equisteers_table_is_of_contrast_concepts(tmp_path):
    command = ("reproduce", "equisteer", "--base", "toyworld", "-o", tmp_path / "out", "--images", 2, *QUICK)
    found = figures(run(*command))
    before, after = found["base, ours"], found["contrast concepts, ours"]
    assert after["reduction"] == pytest.approx(1 - after["parity"] / before["parity"], abs=1e-5)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "EquiSteer, at best, published" in table
    assert "87 %" in table
    assert not list((tmp_path / "out").glob("*.run")), "nothing is trained"
    assert figures(run(*command)) == found


def test_a_calibration_at_several_scales_says_how_the_strength_changes(tmp_path):
    path = shape_adapter(tmp_path / "shape.safetensors")
    command = ("calibrate", path, "--base", "toyworld", "--images", 16, "--no-pairs", *QUICK)
    found = figures(run(*command, "-o", tmp_path / "out.safetensors", "--guidance", 7.5, "--guidance", 2))
    round_ = read(tmp_path / "out.safetensors").concepts["round"].info
    assert round_.strength == found["round"]["strength"]
    assert dict(round_.guidance) == pytest.approx(
        {2.0: found["round at CFG 2"]["strength"] / found["round"]["strength"], 7.5: 1.0}
    )


def test_what_is_not_calibrated_keeps_its_strength_over_the_scales(tmp_path):
    over = ((2.0, 2.0), (7.5, 1.0))
    made = {name: concept(name, "shape", guidance=over) for name in ("round", "square")}
    path = write(Adapter("toyworld", made, "epsilon"), tmp_path / "shape.safetensors")
    command = ("calibrate", path, "--base", "toyworld", "--images", 16, "--concept", "round", *QUICK)
    figures(run(*command, "-o", tmp_path / "out.safetensors", "--guidance", 7.5, "--guidance", 4))
    found = read(tmp_path / "out.safetensors").concepts
    assert found["square"].info.guidance == over
    assert dict(found["round"].info.guidance).keys() == {4.0, 7.5}
    done = run(*command, "-o", tmp_path / "other.safetensors", "--guidance", 7.5, "--guidance", 0)
    assert done.exit_code == 1
    assert "Guidance scales must be above 0" in " ".join(done.output.split())


def test_an_evaluation_at_several_scales_has_a_curve(tmp_path):
    path = shape_adapter(tmp_path / "shape.safetensors")
    scales = ("--guidance", 2, "--guidance", 7.5)
    command = ("eval", "equisteer", "--base", "toyworld", "--adapter", path, "--images", 2, "-o", tmp_path / "out")
    found = figures(run(*command, *scales, *QUICK))
    assert list(found) == [f"{name} at CFG {scale}" for scale in ("2", "7.5") for name in ("unsteered", "shape")]
    assert found["shape at CFG 2"]["change"] > 0
    assert found["unsteered at CFG 2"]["parity gap/shape"] <= 0.5
    assert found["unsteered at CFG 2"] != found["unsteered at CFG 7.5"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "guidance scale (CFG)" in report
