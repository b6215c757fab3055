"""The figures of an evaluation in the terminal: read as they are, with a word where they would mislead."""

from __future__ import annotations

from respodiff.trainer.evaluation.figures import DEVIATION, Figure, VariantFigures
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.evaluation.terminal_summary import summary


def results(setting: str, groups: list[str], axis: str = "gender") -> Results:
    figures = {DEVIATION.of(axis): Figure(0.7, 0.6, 0.8, 40)}
    manifest = {"variants": {"unsteered": {"groups": []}, setting: {"groups": groups}}}
    settings = {name: VariantFigures(40, 0, figures, {}) for name in manifest["variants"]}
    return Results(manifest, {}, (), settings, {}, {}, 0.95)


def test_a_figure_stands_beside_its_interval():
    assert "0.700  0.600 to 0.800" in summary(results("gender", ["woman", "man"]))


def test_steering_all_pictures_to_one_group_is_no_balance_and_said():
    assert "half steers all images to woman: look at its steering accuracy" in summary(results("half", ["woman"]))
    assert "steers all pictures" not in summary(results("both", ["woman", "man"]))


def test_names_are_not_markup():
    text = summary(results("[red]x", ["a", "b"], "[b]axis"))
    assert "[red]x" in text
    assert "[b]axis" in text
