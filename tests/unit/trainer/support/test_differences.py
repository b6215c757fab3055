"""Two descriptions differ in named places, however deep, and nowhere that may change."""

from __future__ import annotations

import pytest
from respodiff.trainer.support.differences import differences


@pytest.mark.parametrize(
    ("begun", "now", "places"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a", "b"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a"]),
        ({"a": None}, {}, []),
        ({"a": 1}, {}, ["a"]),
        ({"size": [64, 64]}, {"size": [64, 32]}, ["size"]),
        ({"one": [{"x": 1}, {"x": 2}]}, {"one": [{"x": 1}, {"x": 3}]}, ["one.2.x"]),
        ({"one": [{"x": 1}]}, {"one": [{"x": 1}, {"x": 3}]}, ["one"]),
    ],
)
def test_each_place_is_named(begun, now, places):
    assert differences(begun, now) == places


def test_what_may_change_is_passed_over():
    begun, now = {"a": {"rate": 1, "seed": 1}, "rate": 1}, {"a": {"rate": 2, "seed": 2}, "rate": 2}
    assert differences(begun, now, lambda place: place == ("a", "rate")) == ["a.seed", "rate"]
