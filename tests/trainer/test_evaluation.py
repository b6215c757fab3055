"""`respodiff eval`: stopped at any moment it goes on exactly, and its folder holds everything."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from adapters import random_adapter
from arrivals import Arrivals
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import write
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.commands.app import app
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.evaluation.run import evaluate
from respodiff.trainer.evaluation.terminal_summary import summary
from respodiff.trainer.recipes.evaluation_recipe import EvalRecipe
from toyworld_adapters import shape_adapter
from trainer_runs import RESPODIFF, Trainer, two_processes
from typer.testing import CliRunner

EVAL = [*RESPODIFF, "eval"]
SETTINGS = ("winobias", "--base", "toyworld", "--images", 10, "--sampling-steps", 2, "--batch", 12)
PICTURES = 16 * 10 * 2
TABLES = ("images.csv", "figures.csv", "figures.json")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    return shape_adapter(tmp_path_factory.mktemp("adapter") / "shape.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, adapter) -> Path:
    """The folder of an evaluation that nothing stopped."""
    trainer = Trainer(tmp_path_factory.mktemp("whole"))
    done = trainer.run(*SETTINGS, "--adapter", adapter, "-o", "whole", launcher=EVAL)
    assert done.returncode == 0, done.stderr
    return trainer.path("whole")


def tables(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in TABLES}


def drawn(folder: Path) -> dict[Path, int]:
    """When each picture that is there was made."""
    found = {}
    for path in folder.glob("images/*/*.png"):
        if not path.name.startswith("."):
            found[path] = path.stat().st_mtime_ns
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "images.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_pictures_tables_and_a_report(whole, adapter):
    assert len(drawn(whole)) == PICTURES
    table = rows(whole)
    assert len(table) == PICTURES
    steered = [row for row in table if row["variant"] == "shape"]
    assert {row["steered"] for row in steered} == {"round", "square"} == {row["wanted:shape"] for row in steered}
    assert all(row["steered"] == "" for row in table if row["variant"] == "unsteered")
    results = Results.read(whole)
    assert results.variants["shape"].named["deviation ratio/shape"].count == PICTURES / 2
    assert len(results.manifest["base"]["sha256"]) == 64
    assert list(results.manifest["variants"]["shape"]["adapters"]) == [adapter.name]
    page = (whole / "report.html").read_text()
    assert "<svg" in page
    assert "data:image/webp;base64," in page
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page), "everything is in the page"


def test_a_picture_says_what_it_is(whole):
    with Image.open(whole / "images" / "shape" / "nurse-003.png") as image:
        facts = json.loads(image.text["respodiff"])
    assert facts == {"variant": "shape", "id": "nurse-003", "prompt": facts["prompt"], "seed": 13}
    assert "nurse" in facts["prompt"]


def test_killed_at_random_points_it_ends_with_the_same_tables_and_draws_nothing_twice(trainer, adapter, whole):
    folder = trainer.path("killed")
    command = (*SETTINGS, "--adapter", adapter, "-o", "killed")
    chance = random.Random(5)
    made: dict[Path, int] = {}
    kills = 0
    while True:
        arrivals = Arrivals()
        process = trainer.start(*command, launcher=EVAL, arrivals=arrivals)
        if kills < 4:
            # Let it make some pictures, or at last tables, then kill it at any moment.
            arrivals.wait_for("*.png" if len(drawn(folder)) < PICTURES else "*")
            time.sleep(chance.uniform(0, 0.5))
            process.kill()
            killed = process.wait() == -signal.SIGKILL
            process.communicate()
            kills += 1
        else:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            killed = False
        now = drawn(folder)
        # Whole batches that were there are left alone: none is written a second time.
        again = [path for path, when in made.items() if now.get(path) != when]
        assert len(again) < 12, "at most the batch whose names were being given"
        for path in now:
            with Image.open(path) as image:
                image.verify()
        made = now
        if not killed and (folder / "report.html").exists():
            break
    assert tables(folder) == tables(whole)
    assert not list(folder.glob("images/*/.*")), "nothing half-written is left"


def test_asked_to_stop_it_says_how_to_go_on(trainer, adapter, whole):
    arrivals = Arrivals()
    process = trainer.start(*SETTINGS, "--adapter", adapter, "-o", "asked", launcher=EVAL, arrivals=arrivals)
    assert arrivals.wait_for("*.png")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command to resume." in err
    assert 0 < len(drawn(trainer.path("asked"))) < PICTURES
    done = trainer.run(*SETTINGS, "--adapter", adapter, "-o", "asked", launcher=EVAL)
    assert done.returncode == 0, done.stderr
    assert tables(trainer.path("asked")) == tables(whole)


def test_two_processes_give_the_numbers_of_one(trainer, adapter, whole):
    done = trainer.run(*SETTINGS, "--adapter", adapter, "-o", "two", launcher=two_processes("eval"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert tables(trainer.path("two")) == tables(whole)
    assert done.stdout.count("Report: ") == 1


def recipe_of(folder: Path, adapter: Path, **more: object) -> EvalRecipe:
    """What the commands above say."""
    values = {
        "protocol": "winobias",
        "base": "toyworld",
        "output": str(folder),
        "images": 10,
        "variants": [{"name": "unsteered"}, {"name": "shape", "adapters": [str(adapter)]}],
        "sampling": {"schedule_steps": 2, "batch": 12, "device": "cpu"},
    }
    return EvalRecipe.of({**values, **more})


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    """A finished evaluation to do things to, under the name of the first."""
    return Path(shutil.copytree(whole, tmp_path / "copy" / whole.name))


def test_damaged_pictures_are_named_and_counted_and_drawn_again_when_deleted(copied, adapter, whole):
    broken = copied / "images" / "shape" / "cook-001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    shutil.rmtree(copied / "scores")
    results = evaluate(recipe_of(copied, adapter), shown=False)
    (reason,) = results.damaged.values()
    assert reason.startswith("shape/cook-001.png cannot be read")
    figures = results.variants["shape"]
    assert (figures.images, figures.damaged) == (PICTURES / 2, 1)
    assert figures.named["deviation ratio/shape"].count == PICTURES / 2 - 1
    (row,) = (row for row in rows(copied) if row["damaged"])
    assert (row["variant"], row["id"]) == ("shape", "cook-001")
    assert "1 image of" in (copied / "report.html").read_text()
    assert f"Left out: {reason}" in " ".join(summary(results).split())

    broken.unlink()
    evaluate(recipe_of(copied, adapter), shown=False)
    assert tables(copied) == tables(whole)


def test_what_is_drawn_and_scored_is_not_done_again(copied, adapter, whole, monkeypatch):
    monkeypatch.setattr(
        "respodiff.trainer.evaluation.generation.ImageGenerator.generate", lambda *_: pytest.fail("drew again")
    )
    monkeypatch.setattr(
        "respodiff.trainer.toyworld.image_scorer.ToyWorldScorer.score", lambda *_: pytest.fail("scored again")
    )
    evaluate(recipe_of(copied, adapter), shown=False)
    assert tables(copied) == tables(whole)


def test_another_evaluation_in_the_same_folder_is_refused(whole, adapter, tmp_path):
    before = drawn(whole)
    other = recipe_of(whole, adapter, sampling={"schedule_steps": 2, "batch": 12, "guidance": 3, "device": "cpu"})
    with pytest.raises(RespoDiffError, match=r"another evaluation, which differs in: sampling\.guidance.*--restart"):
        evaluate(other, shown=False)
    assert drawn(whole) == before
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RespoDiffError, match="exists and is not an output folder of an evaluation"):
        evaluate(recipe_of(tmp_path, adapter), restart=True, shown=False)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_it_can_be_given_up_and_what_else_is_in_the_folder_stays(copied, adapter, whole):
    (copied / "letter.txt").write_text("dear")
    made = drawn(copied)
    evaluate(recipe_of(copied, adapter), restart=True, shown=False)
    assert all(when > made[path] for path, when in drawn(copied).items())
    assert tables(copied) == tables(whole)
    assert (copied / "letter.txt").read_text() == "dear"


def test_an_adapter_trained_again_is_another_evaluation(copied, tmp_path):
    changed = shape_adapter(tmp_path / "shape.safetensors", strength=0.5)
    with pytest.raises(RespoDiffError, match=r"differs in: variants\.shape\.adapters\.shape\.safetensors"):
        evaluate(recipe_of(copied, changed), shown=False)


def test_pictures_may_be_dropped_once_judged(copied, adapter, whole):
    recipe = recipe_of(copied, adapter, keep_images=False)
    evaluate(recipe, shown=False)
    assert not drawn(copied)
    assert tables(copied) == tables(whole)
    again = evaluate(recipe, shown=False)
    assert not drawn(copied)
    assert again == Results.read(whole)


def test_adapters_for_another_model_are_refused_before_anything_is_drawn(tmp_path):
    path = write(random_adapter("woman"), tmp_path / "woman.safetensors")
    with pytest.raises(RespoDiffError, match=r"was made for Stable Diffusion 1\.x, toyworld is ToyWorld"):
        evaluate(recipe_of(tmp_path / "out", path), shown=False)
    assert not (tmp_path / "out").exists()


def test_ones_own_classifier_judges(copied, adapter, tmp_path, monkeypatch):
    """It calls everything square but cannot tell the first of each call."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judges_of_shape.py").write_text(
        "def shape(pictures, texts):\n    return [None] + [texts.index('square')] * (len(pictures) - 1)\n"
    )
    results = evaluate(recipe_of(copied, adapter, scoring={"classifier": "judges_of_shape:shape"}), shown=False)
    shares = [one.named["share/shape/square"] for one in results.variants.values()]
    assert [share.value for share in shares] == [1, 1]
    assert sum(share.unknown for share in shares) == PICTURES / 64


def test_reports_of_several_runs_stand_side_by_side(whole, copied, tmp_path):
    runner = CliRunner()
    done = runner.invoke(app, ["report", str(whole), str(copied), "-o", str(tmp_path / "both.html")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "both.html").read_text()
    for name in (whole, copied):
        assert f"{name}: unsteered" in page
        assert f"{name}: shape" in page
    done = runner.invoke(app, ["report", str(whole), "-o", str(tmp_path / "both.html")])
    assert done.exit_code == 1
    assert "already exists" in done.output
    done = runner.invoke(app, ["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "other.html")])
    assert done.exit_code == 1
    assert "name the folder of a finished evaluation" in done.output
