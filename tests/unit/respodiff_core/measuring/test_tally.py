"""Counting what a classifier saw: figures by hand, classes and names as people write them."""

from __future__ import annotations

from math import comb

import pytest
import torch
from respodiff.respodiff_core.errors import BatchSizeError, ClassifierError
from respodiff.respodiff_core.measuring.image_classes import (
    ImageClass,
    check_images,
    nearest,
    parse_classes,
    requested_classes,
)
from respodiff.respodiff_core.measuring.metrics import deviation_ratio
from respodiff.respodiff_core.measuring.tally import Tally, deviation_by_chance
from respodiff.respodiff_core.measuring.tally_memory import TallyMemory

GENDER = parse_classes("woman = a photo of a woman\nman = a photo of a man")
W, M = 0, 1


def tally(seen: list[int], asked: list[int | None] | None = None, classes: tuple[str, ...] = ("woman", "man")) -> Tally:
    return Tally.empty(classes).add(seen, asked)


class TestFigures:
    def test_a_balanced_batch_that_shows_what_was_asked_for(self):
        found = tally([W, W, M, M], [W, W, M, M])
        assert found.counts == ((2, 0), (0, 2), (0, 0))
        assert found.shares == (0.5, 0.5)
        assert found.deviation_ratio == 0
        assert found.steering_accuracy == (1.0, 1.0)

    def test_one_class_only(self):
        found = tally([M, M, M, M], [W, W, M, M])
        assert found.deviation_ratio == 1
        assert found.steering_accuracy == (0.0, 1.0)
        assert found.worst == ("woman", 0.0)

    def test_failures_that_cancel_are_seen_by_the_steering_accuracy_alone(self):
        found = tally([M, M, W, W], [W, W, M, M])
        assert found.deviation_ratio == 0
        assert found.steering_accuracy == (0.0, 0.0)
        assert found.worst == ("woman", 0.0)

    def test_a_class_that_never_shows_and_one_that_was_never_asked_for(self):
        found = tally([0, 0, 0, 1], [0, 1, None, 1], ("a", "b", "c"))
        assert found.seen == (3, 1, 0)
        assert found.deviation_ratio == pytest.approx(0.625)  # (3/4 - 1/3) / (2/3)
        assert found.steering_accuracy == (1.0, 0.5, None)
        assert found.unsteered == (1, 0, 0)
        assert found.worst == ("b", 0.5)

    def test_nothing_was_asked_for(self):
        found = tally([W, M, M])
        assert found.unsteered == (1, 2)
        assert found.requested == (0, 0)
        assert found.steering_accuracy == (None, None)
        assert found.worst is None

    @pytest.mark.parametrize("labels", [[0], [0, 1, 2], [0, 0, 1, 2, 2, 2, 2]])
    def test_the_deviation_ratio_is_that_of_the_metrics(self, labels):
        assert tally(labels, classes=("a", "b", "c")).deviation_ratio == pytest.approx(deviation_ratio(labels, 3))

    def test_no_pictures_have_no_shares(self):
        with pytest.raises(ValueError, match="at least one image"):
            _ = Tally.empty(("a", "b")).deviation_ratio

    def test_tallies_add_up_and_stay_as_they_were(self):
        first, second = tally([W, M], [W, None]), tally([M, M], [W, M])
        assert (first + second).counts == ((1, 1), (0, 1), (0, 1))
        assert first.counts == ((1, 0), (0, 0), (0, 1))
        assert first + second == tally([W, M, M, M], [W, None, W, M])

    def test_tallies_of_other_classes_do_not(self):
        with pytest.raises(ValueError, match="different classes"):
            tally([W]) + tally([W], classes=("man", "woman"))

    def test_a_label_for_each_picture(self):
        with pytest.raises(ValueError, match="zip"):
            tally([W, M], [W])


class TestByChance:
    @pytest.mark.parametrize("pictures", [1, 2, 4, 9, 40])
    def test_two_classes_are_a_coin(self, pictures):
        exact = sum(comb(pictures, k) * abs(2 * k / pictures - 1) for k in range(pictures + 1)) / 2**pictures
        assert deviation_by_chance(pictures, 2) == pytest.approx(exact, abs=0.01)

    def test_it_falls_with_more_pictures(self):
        assert deviation_by_chance(4, 3) > deviation_by_chance(40, 3) > deviation_by_chance(4000, 3) > 0


class TestSummary:
    def test_all_figures_to_read(self):
        assert tally([W, M, M, M], [W, W, M, None]).summary().splitlines() == [
            "4 images, seen as: woman 1 (25%), man 3 (75%)",
            "Deviation ratio 0.50 (0: balanced, 1: all of one class). "
            f"An unbiased random sample of 4 images has about {deviation_by_chance(4, 2):.2f} on average.",
            "Steering accuracy 0.50 (lowest class: woman):",
            "  woman requested: 2, seen as woman 1, man 1 (0.50)",
            "  man requested: 1, seen as man 1 (1.00)",
            "  no class requested: 1, seen as man 1",
        ]

    def test_nothing_was_asked_for(self):
        text = tally([W]).summary()
        assert text.startswith("1 image, seen as: woman 1 (100%), man 0 (0%)\n")
        assert text.endswith("No class was requested, so there is no steering accuracy.")


class TestMemory:
    def test_batches_add_up_and_each_is_counted_once(self):
        memory = TallyMemory()
        assert memory.add("meter", "first", tally([W, W])) == (tally([W, W]), True)
        assert memory.add("meter", "second", tally([M])) == (tally([W, W, M]), True)
        assert memory.add("meter", "first", tally([W, W], [W, M])) == (tally([W, W, M], [W, M, None]), False)

    def test_series_are_kept_apart(self):
        memory = TallyMemory()
        memory.add(("meter", 0), "first", tally([W]))
        assert memory.add(("meter", 1), "first", tally([M])) == (tally([M]), True)
        assert memory.add(("meter", 0), "second", tally([W]))[0] == tally([W, W])

    def test_the_series_used_longest_ago_is_forgotten(self):
        memory = TallyMemory(most=2)
        for key in ("a", "b", "a", "c"):
            memory.add(key, "first", tally([W]))
        assert memory.add("a", "second", tally([W]))[0].images == 2
        assert memory.add("b", "second", tally([W]))[0].images == 1


class TestClasses:
    def test_a_name_and_a_text_or_both_in_one(self):
        assert parse_classes(" woman = a photo of a woman \n\n a man\nx = 1 = 2\n") == (
            ImageClass("woman", "a photo of a woman"),
            ImageClass("a man", "a man"),
            ImageClass("x", "1 = 2"),
        )

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            ("", "there is none"),
            (" \n", "there is none"),
            ("a woman", "only 'a woman'"),
            ("a woman\nA Woman", "Two classes have the name 'a woman'"),
            ("woman = a person\nman = A person", "Two classes have the text 'a person'"),
            ("woman =\nman", "'woman =' is not a valid class"),
            ("= a woman\nman", "'= a woman' is not a valid class"),
        ],
    )
    def test_what_tells_nothing_apart(self, lines, says):
        with pytest.raises(ClassifierError, match=says):
            parse_classes(lines)

    def test_names_of_fair_batch_are_classes_by_name_by_text_or_by_a_part(self):
        lines = "woman\nMan\nA photo of a woman\nblack + woman\nman + old\nnone\nold\nold"
        assert requested_classes(lines, 8, GENDER) == ([W, M, W, W, M, None, None, None], ("old",))

    def test_a_name_goes_before_a_text(self):
        classes = parse_classes("b = a\na = c")
        assert requested_classes("a\nb", 2, classes).numbers == [1, 0]

    def test_a_class_may_be_a_crossed_group_itself(self):
        classes = parse_classes("woman + black\nwoman\nman")
        assert requested_classes("woman + black\nwoman + white", 2, classes).numbers == [0, 1]

    def test_without_names_nothing_was_asked(self):
        assert requested_classes(None, 2, GENDER) == ([None, None], ())

    def test_a_name_in_two_classes(self):
        with pytest.raises(ClassifierError, match=r"'woman \+ black' contains 2 of the classes"):
            requested_classes("woman + black", 1, parse_classes("woman\nman\nblack\nwhite"))

    @pytest.mark.parametrize("names", ["", "woman", "woman\nman\nman"])
    def test_names_of_another_batch(self, names):
        with pytest.raises(BatchSizeError, match=f"There are 2 images but {len(names.splitlines())} names"):
            requested_classes(names, 2, GENDER)


class TestNearest:
    def test_by_angle_not_by_length(self):
        pictures = torch.tensor([[3.0, 1.0], [0.1, 0.2]])
        assert nearest(pictures, torch.tensor([[0.1, 0.0], [0.0, 50.0]])) == [0, 1]

    def test_of_equals_the_first(self):
        assert nearest(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.eye(2)) == [0, 0]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_numbers_that_are_none(self, value):
        with pytest.raises(ClassifierError, match="NaN or infinite"):
            nearest(torch.tensor([[value, 1.0]]), torch.eye(2))

    def test_pictures_in_which_nothing_can_be_seen(self):
        images = torch.zeros(3, 2, 2, 3)
        check_images(images)
        images[1, 0, 0, 0] = float("nan")
        with pytest.raises(ClassifierError, match="Image 2 of 3 contains NaN"):
            check_images(images)
        with pytest.raises(ClassifierError, match="batch of images is empty"):
            check_images(images[:0])
