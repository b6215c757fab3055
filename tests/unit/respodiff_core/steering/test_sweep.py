"""A sweep: strengths as people write them, and which image gets which."""

from __future__ import annotations

import pytest
from adapters import random_concept
from respodiff.respodiff_core.errors import StrengthError
from respodiff.respodiff_core.steering.sweep import Axis, Sweep, parse_strengths


@pytest.mark.parametrize(
    ("text", "strengths"),
    [
        ("0, 0.5, 1", (0, 0.5, 1)),
        ("-1 0 1", (-1, 0, 1)),
        (" 1.5 ", (1.5,)),
        ("0; 1;2,", (0, 1, 2)),
        ("0 to 2 in 5", (0, 0.5, 1, 1.5, 2)),
        ("1 to -1 in 3", (1, 0, -1)),
        ("0 to 1 in 3\n", (0, 0.5, 1)),
    ],
)
def test_lists_and_ranges(text, strengths):
    assert parse_strengths(text) == strengths


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a list of strengths"),
        ("strong", "is not a list of strengths"),
        ("0 to 2", "is not a list of strengths"),
        ("0, 1, two", "is not a list of strengths"),
        ("0 to 2 in 1", "2 to 256 strengths, not 1"),
        ("0, 1000", "must be between -10 and 10"),
        ("nan", "is not a list of strengths"),
        ("1 " * 300, "more than 256"),
    ],
)
def test_anything_else_is_explained(text, says):
    with pytest.raises(StrengthError, match=says):
        parse_strengths(text)


def test_along_one_concept_image_i_has_strength_i():
    plan = Sweep(Axis(random_concept("woman"), (0, 0.5, 1))).plan()
    assert [term.images for term in plan.terms] == [(0, 0.5, 1)]


def test_two_concepts_span_a_grid_row_by_row():
    sweep = Sweep(Axis(random_concept("woman"), (0.0, 1.0)), Axis(random_concept("old"), (0.0, 0.5, 1.0)))
    x, y = sweep.plan().terms
    assert x.images == (0, 1, 0, 1, 0, 1)
    assert y.images == (0, 0, 0.5, 0.5, 1, 1)
    assert (sweep.columns, sweep.rows, sweep.images) == (2, 3, 6)


def test_labels_are_short():
    assert Axis(random_concept(), (0, 0.5, -1.25, 1 / 3)).labels == ("0", "0.5", "-1.25", "0.333")


def test_too_many_images_are_refused():
    axis = Axis(random_concept(), tuple(range(-10, 10)))
    with pytest.raises(StrengthError, match="400 images, at most 256"):
        Sweep(axis, axis)
