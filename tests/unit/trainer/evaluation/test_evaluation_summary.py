"""The figures of an evaluation in the terminal: read as they are, with a word where they would mislead."""

from __future__ import annotations

from dataclasses import replace

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


def test_many_variants_are_rows_of_values(monkeypatch):
    """Ten columns would be unreadable in a terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    few = results("gender", ["woman", "man"])
    names = ["unsteered", *(f"gender at CFG {scale}" for scale in (1, 2, 4, 7.5))]
    variants = dict.fromkeys(names, few.variants["unsteered"])
    text = summary(replace(few, manifest={"variants": {name: {"groups": []} for name in names}}, variants=variants))
    assert sum(line.startswith("gender at CFG") and "0.700" in line for line in text.splitlines()) == 4
    assert "0.600 to 0.800" not in text
    assert text.endswith("Intervals are in the report.")
