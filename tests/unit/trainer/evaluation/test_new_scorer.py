"""A scorer of one file and one line: what its columns say of themselves is shown wherever figures are."""

from __future__ import annotations

import json
from importlib import import_module
from typing import get_args

import numpy as np
import pytest
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.trainer.evaluation.figures import Resampling, Row, VariantFigures, variant_figures
from respodiff.trainer.evaluation.generation import Job
from respodiff.trainer.evaluation.html_report import curves_of, write_report
from respodiff.trainer.evaluation.image_folder import ImageFolder
from respodiff.trainer.evaluation.presentation import cell_of, main_figures, title_of
from respodiff.trainer.evaluation.results import FIGURES_FILE, Results
from respodiff.trainer.evaluation.terminal_summary import figures_line, summary
from respodiff.trainer.experiments.ablation import means_of, shown
from respodiff.trainer.recipes.evaluation_recipe import Metric
from respodiff.trainer.worlds.column import Column
from respodiff.trainer.worlds.image_spec import ImageSpec
from respodiff.trainer.worlds.scorer import ScoredImage, Scorer
from small_judges import noise
from small_judges import shown as image

STRENGTHS = (0.5, 1.0)


class Brightness(Scorer):
    """As somebody would write it: nothing else in the evaluation knows of it."""

    name = "brightness"
    fingerprint = "mean of pixels"
    columns = (
        Column("bright", "bright images", "brighter than the middle", is_share=True, over_strength=True),
        Column("light", "mean light", "of a pixel, from 0 to 255"),
    )

    def score(self, shown: list[ScoredImage]) -> list[dict]:
        light = [float(np.asarray(one.image).mean()) for one in shown]
        return [{"bright": int(value > 127), "light": value} for value in light]


def figures_of(scorer: Scorer) -> VariantFigures:
    specs = [ImageSpec(f"{number}", "", number) for number in range(8)]
    scores = scorer.score([image(noise(number)) for number in range(8)])
    rows = [Row(Job("set", spec, FairGroup("", ())), {}, one) for spec, one in zip(specs, scores, strict=True)]
    return variant_figures(rows, (), scorer.columns, Resampling(resamples=100))


@pytest.fixture
def results(tmp_path) -> Results:
    """As read from the file, by which alone a later report knows of the scorer."""
    figures = figures_of(Brightness())
    settings = {f"at {strength:g}": figures for strength in STRENGTHS}
    how = {"adapters": {"a.safetensors": "0"}, "guidance": 7.5, "named": False, "gate": False, "groups": []}
    about = {
        name: {**how, "strength": strength, "strengths": {"a": strength}}
        for name, strength in zip(settings, STRENGTHS, strict=True)
    }
    manifest = {
        "protocol": "prompts",
        "extended": False,
        "base": {"name": "base", "family": "sd15", "sha256": "1"},
        "asked": {"images": 8, "sha256": "2"},
        "seed": 0,
        "sampling": {"schedule_steps": 50, "guidance": 7.5, "batch": 8, "latent_size": [64, 64],
                    "prediction": "epsilon", "precision": "float32"},
        "variants": about,
    }  # fmt: skip
    Results(manifest, {"brightness": Brightness.fingerprint}, (), settings, {}, {}, 0.95).write(tmp_path / FIGURES_FILE)
    return Results.read(tmp_path)


def test_its_figures_come_back_from_the_file_with_all_that_is_known_of_them(results):
    found = results.variants["at 1"].overall
    assert found == figures_of(Brightness()).overall
    assert [(name.kind.title, name.kind.meaning, name.kind.is_share) for name in found] == [
        ("bright images", "brighter than the middle", True),
        ("mean light", "of a pixel, from 0 to 255", False),
    ]
    assert figures_line(results)["at 1"].keys() == {"bright", "light"}


def test_the_terminal_shows_its_titles_and_formats(results):
    lines = summary(results).splitlines()
    (bright,), (light,) = ([line for line in lines if title in line] for title in ("bright images", "mean light"))
    assert " %" in bright
    assert " %" not in light


def test_a_report_shows_titles_meanings_formats_and_the_curve(results, tmp_path):
    write_report({"run": (results, ImageFolder(tmp_path / "images"))}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    for name, figure in results.variants["at 1"].overall.items():
        assert f"<th>{title_of(name)}<small>{name.kind.meaning}</small></th>" in page
        assert f"{cell_of(figure, name.kind).value}<small>" in page
    assert [chart.title for chart in curves_of(results)] == ["bright images over strength"]


def test_an_ablation_shows_it_too(results):
    table = shown(means_of([results, results]))
    assert list(table.head) == ["", "bright images", "mean light"]
    assert table.rows[0][1].endswith(" %")


@pytest.mark.parametrize("damage", [{"title": 3}, {"is_share": "yes"}, {"colour": "red"}, {"name": "another"}])
def test_a_damaged_description_is_refused(results, tmp_path, damage):
    path = tmp_path / FIGURES_FILE
    data = json.loads(path.read_text())
    data["columns"][0] |= damage
    path.write_text(json.dumps(data))
    with pytest.raises(RespoDiffError, match=r"is not an evaluation's figures\.json"):
        Results.read(tmp_path)


@pytest.mark.parametrize("metric", get_args(Metric))
def test_each_metric_is_a_module_of_its_name_with_a_loader(metric):
    assert callable(import_module(f"respodiff.trainer.evaluation.scorers.{metric}").load)


def test_the_first_table_has_no_figure_of_single_groups():
    column = Column("deviation", "deviation")
    names = [column.of("gender"), column.of("gender", group="woman"), column.of("gender", "race"), column.of()]
    assert main_figures([dict.fromkeys(names)]) == [names[0], *names[2:]]
