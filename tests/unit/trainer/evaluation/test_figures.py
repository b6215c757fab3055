"""The figures of an evaluation, against ones counted by hand on sets made for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.trainer.evaluation.figures import DEVIATION, SHARE, Resampling, Row, VariantFigures, variant_figures
from respodiff.trainer.evaluation.generation import Job
from respodiff.trainer.worlds.column import Column
from respodiff.trainer.worlds.image_spec import ImageSpec
from respodiff.trainer.worlds.scorer import Axis, Scores

GENDER = Axis("gender", ("woman", "man"), ("a woman", "a man"))
RACE = Axis("race", ("white", "black", "asian"), ("a white person", "a black person", "an Asian person"))
W, M = 0, 1
QUICK = Resampling(resamples=200)
COLUMNS = [Column(name, name) for name in ("alignment", "distance")]
COLUMNS += [Column(name, name, is_share=True, unsafe=True, pooled=True) for name in ("nudity", "q16")]


def rows(
    seen: Sequence[int | None],
    wanted: Sequence[int | None] | None = None,
    groups: Sequence[str] | None = None,
    **columns: Sequence[float | int | None],
) -> list[Row]:
    """A picture for each label: what was seen of gender, what was asked for, in which profession, and other columns."""
    made = []
    for number, label in enumerate(seen):
        group = groups[number] if groups else "doctor"
        scores: Scores = {GENDER.column: label, **{name: values[number] for name, values in columns.items()}}
        job = Job("set", ImageSpec(f"{number}", f"a photo of a {group}", number, group), FairGroup("", ()))
        made.append(Row(job, {"gender": wanted[number] if wanted else None}, scores))
    return made


def figures_of(made: Sequence[Row], axes: Sequence[Axis] = (GENDER,)) -> VariantFigures:
    return variant_figures(made, axes, COLUMNS, QUICK)


def overall(made: Sequence[Row], axes: Sequence[Axis] = (GENDER,)) -> dict[str, float]:
    return {name: one.value for name, one in figures_of(made, axes).named.items()}


def test_a_balanced_set():
    found = overall(rows([W, M, W, M], wanted=[W, M, W, M]))
    assert found["deviation ratio/gender"] == 0
    assert found["steering accuracy/gender"] == 1
    assert (found["share/gender/woman"], found["share/gender/man"]) == (0.5, 0.5)


def test_the_parity_gap_is_a_mean_over_the_classes():
    """EquiSteer's measure: three of four women are .25 away from each half; it is averaged over the professions."""
    made = rows([W, W, W, M, W, M, W, M], groups=["doctor"] * 4 + ["nurse"] * 4)
    found = variant_figures(made, (GENDER,), COLUMNS, QUICK, parity=True).named
    assert found["parity gap/gender"].value == pytest.approx((0.25 + 0) / 2)
    assert "parity gap/gender" not in overall(made)


def test_a_set_of_one_class():
    """All women: as uneven as can be, and half of what was asked for."""
    found = overall(rows([W] * 6, wanted=[W, W, W, M, M, M]))
    assert found["deviation ratio/gender"] == 1
    assert found["steering accuracy/gender/woman"] == 1
    assert found["steering accuracy/gender/man"] == found["steering accuracy/gender"] == 0


def test_failures_that_cancel_are_seen_by_steering_accuracy_alone():
    found = overall(rows([M, M, W, W], wanted=[W, W, M, M]))
    assert found["deviation ratio/gender"] == 0
    assert found["steering accuracy/gender"] == 0


def test_the_ratio_is_taken_within_each_profession_and_averaged():
    """Three doctors of four are men: |3/4 - 1/2| / (1/2) = 1/2. Both nurses are women: 1. Pooled it would be 0."""
    made = rows([M, M, M, W, W, W], groups=["doctor"] * 4 + ["nurse"] * 2)
    assert overall(made)["deviation ratio/gender"] == pytest.approx(0.75)
    groups = figures_of(made).groups
    assert groups["doctor"][DEVIATION.of("gender")].value == pytest.approx(0.5)
    assert groups["nurse"][SHARE.of("gender", group="man")].value == 0


def test_a_class_that_never_shows_still_counts():
    """Of three, two show equally often: the third is short by 1/3, of at most 2/3."""
    made = [Row(row.job, {}, {RACE.column: n % 2}) for n, row in enumerate(rows([W] * 4))]
    found = overall(made, [RACE])
    assert found["deviation ratio/race"] == pytest.approx(0.5)
    assert found["share/race/asian"] == 0


def test_what_nobody_can_tell_is_counted_and_is_not_what_was_asked_for():
    made = rows([W, None, M, None], wanted=[W, W, M, M])
    figures = figures_of(made).named
    ratio = figures["deviation ratio/gender"]
    assert (ratio.value, ratio.count, ratio.unknown) == (0, 2, 2)
    assert figures["steering accuracy/gender/woman"].value == 0.5


def test_damaged_pictures_are_counted_and_in_no_figure():
    made = rows([W, M, W, M])
    made[0] = Row(made[0].job, made[0].wanted, None)
    figures = figures_of(made)
    assert (figures.images, figures.damaged) == (4, 1)
    assert figures.named["deviation ratio/gender"].count == 3
    assert figures.named["deviation ratio/gender"].value == pytest.approx(1 / 3)


def test_nothing_but_damaged_pictures_has_no_figures():
    made = [Row(row.job, row.wanted, None) for row in rows([W, M])]
    assert figures_of(made).overall == {}


def test_two_axes_have_a_ratio_over_their_pairs():
    """Each axis is balanced; of the six pairs two show, half the time each: |1/2 - 1/6| / (5/6) = 0.4."""
    pairs = [(0, 0), (1, 1)] * 3
    made = [
        Row(row.job, {}, {GENDER.column: one, RACE.column: other})
        for row, (one, other) in zip(rows([W] * 6), pairs, strict=True)
    ]
    found = overall(made, [GENDER, RACE])
    assert found["deviation ratio/gender"] == 0
    assert found["deviation ratio/gender x race"] == pytest.approx(0.4)


def test_means_are_of_the_pictures_that_have_a_number():
    figures = figures_of(rows([W, W, W], distance=[None, 0.2, 0.4])).named
    assert figures["distance"].value == pytest.approx(0.3)
    assert (figures["distance"].count, figures["distance"].unknown) == (2, 1)


def test_a_column_without_any_number_is_no_figure():
    assert "distance" not in overall(rows([W, W], distance=[None, None]))


def test_either_flag_makes_a_picture_unsafe_and_it_counts_in_each_of_its_categories():
    made = rows([W] * 4, nudity=[1, 0, 0, 0], q16=[0, 1, 0, 0])
    categories = [("sexual", "hate"), ("hate",), ("hate",), ("sexual",)]
    made = [
        Row(Job("set", ImageSpec(row.job.spec.id, "x", 0, categories=own), row.job.given), {}, row.scores)
        for row, own in zip(made, categories, strict=True)
    ]
    found = overall(made)
    assert found["flagged"] == 0.5
    assert (found["flagged/sexual"], found["flagged/hate"]) == (0.5, pytest.approx(2 / 3))


def test_a_score_without_a_column_is_an_error_and_not_left_out():
    with pytest.raises(RespoDiffError, match="returned brightness, which is not among its columns"):
        figures_of(rows([W], brightness=[0.5]))


class TestIntervals:
    def test_hold_the_value_and_narrow_with_more_pictures(self):
        rng = np.random.default_rng(0)

        def width(count: int) -> float:
            made = rows(rng.integers(0, 2, count).tolist(), alignment=rng.normal(27, 2, count).tolist())
            one = figures_of(made).named["alignment"]
            assert one.low < one.value < one.high
            return one.high - one.low

        assert width(400) < 0.7 * width(50)

    def test_cover_the_true_share_about_as_often_as_they_say(self):
        """95 % intervals of a share of 0.3, 200 times: more than 180 and not all must hold it."""
        rng = np.random.default_rng(1)
        held = 0
        for _ in range(200):
            one = QUICK.figure([rng.random(100) < 0.3], lambda values, axis: values.mean(axis))
            held += one.low <= 0.3 <= one.high
        assert 180 < held < 200

    def test_quotas_are_not_taken_for_chance(self):
        """Five women and five men were asked for, and shown, in each profession: nothing is uncertain about it."""
        labels = [W] * 5 + [M] * 5
        made = rows(labels * 2, wanted=labels * 2, groups=["doctor"] * 10 + ["nurse"] * 10)
        one = figures_of(made).named["deviation ratio/gender"]
        assert (one.low, one.high) == (0, 0)

    def test_of_a_balanced_set_hold_its_ratio(self):
        """Resamples only add deviation, and take from the worst group; both intervals hold the value all the same."""
        labels = [W] * 14 + [M] + [M] * 14 + [W]
        wanted = [W] * 15 + [M] * 15
        groups = [name for name in "abcdefghijkl" for _ in labels]
        figures = figures_of(rows(labels * 12, wanted * 12, groups)).named
        ratio, accuracy = figures["deviation ratio/gender"], figures["steering accuracy/gender"]
        assert ratio.low == ratio.value == 0 < ratio.high < 0.05
        assert accuracy.value == pytest.approx(14 / 15)
        assert accuracy.low < accuracy.value < accuracy.high

    def test_a_single_picture_has_none(self):
        one = figures_of(rows([W])).named["deviation ratio/gender"]
        assert (one.value, one.low, one.high) == (1, None, None)

    def test_are_the_same_again(self):
        made = rows([W, M, M, W, M] * 4)
        assert figures_of(made) == figures_of(made)
