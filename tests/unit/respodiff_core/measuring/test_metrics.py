"""Figures, held against those worked out by hand."""

from __future__ import annotations

import pytest
from respodiff.respodiff_core.measuring.metrics import deviation_ratio


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


@pytest.mark.parametrize("labels", [[], [0, 2], [-1]])
def test_labels_must_be_classes(labels):
    with pytest.raises(ValueError, match="label"):
        deviation_ratio(labels, 2)
