"""Figures, held against those worked out by hand."""

from __future__ import annotations

import pytest
from respodiff.respodiff_core.metrics import deviation_ratio, lowest, mean_deviation_ratio, steering_accuracy


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([0, 1, 0, 1], 2, 0.0),
        ([1, 1, 1], 2, 1.0),
        ([0, 0, 0, 1], 2, 0.5),
        ([0, 1, 2], 3, 0.0),
        ([0, 0, 0, 0], 3, 1.0),
        ([0, 0, 1, 1], 3, 0.5),  # a class that never shows: |0 - 1/3| / (2/3)
    ],
)
def test_the_deviation_ratio_is_zero_when_balanced_and_one_when_all_are_alike(labels, classes, expected):
    assert deviation_ratio(labels, classes) == pytest.approx(expected)


def test_it_is_averaged_over_groups():
    assert mean_deviation_ratio([0, 0, 0, 1], [5, 5, 8, 8], 2) == pytest.approx(0.5)


@pytest.mark.parametrize("labels", [[], [0, 2], [-1]])
def test_labels_must_be_classes(labels):
    with pytest.raises(ValueError, match="label"):
        deviation_ratio(labels, 2)


def test_steering_accuracy_sees_what_the_deviation_ratio_cannot():
    wanted, swapped = [0, 0, 1, 1], [1, 1, 0, 0]
    assert deviation_ratio(swapped, 2) == 0
    assert steering_accuracy(swapped, wanted) == {0: 0.0, 1: 0.0}
    assert steering_accuracy([0, 1, 1, 1], wanted) == {0: 0.5, 1: 1.0}
    assert lowest(steering_accuracy([0, 1, 1, 1], wanted)) == 0.5
