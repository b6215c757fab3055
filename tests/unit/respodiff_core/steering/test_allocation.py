"""Which image gets which concept: quotas exact, draws fair, and the same everywhere."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from respodiff.respodiff_core.errors import ShareError
from respodiff.respodiff_core.steering.allocation import balanced, drawn

SEEDS = st.integers(0, 2**64 - 1)
# 99.9 % quantiles by degrees of freedom; seeds are fixed, so none can fail by chance alone.
CHI_SQUARE_LIMITS = {1: 10.83, 2: 13.82, 4: 18.47}
WHOLE_SHARES = st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any)


class TestBalanced:
    @pytest.mark.parametrize("groups", range(1, 9))
    @given(seed=SEEDS, data=st.data())
    @settings(deadline=None, max_examples=10)
    def test_every_share_gets_its_quota_in_whole_images(self, groups, seed, data):
        """For every batch up to 64: each gets its due rounded down or up, and exactly its due where that is whole."""
        shares = data.draw(st.lists(st.integers(0, 1000), min_size=groups, max_size=groups).filter(any))
        for images in range(1, 65):
            given = balanced(shares, images, seed)
            assert len(given) == images
            counts = Counter(given)
            for number, share in enumerate(shares):
                due = Fraction(images * share, sum(shares))
                assert due - 1 < counts[number] < due + 1

    def test_equal_shares_are_exact_for_every_count_that_divides(self):
        for groups in range(1, 9):
            for images in range(groups, 65, groups):
                for seed in range(5):
                    assert set(Counter(balanced([1] * groups, images, seed)).values()) == {images // groups}

    @given(shares=WHOLE_SHARES, images=st.integers(1, 64), seed=SEEDS)
    @settings(deadline=None, max_examples=300)
    def test_over_consecutive_seeds_shares_are_met_exactly(self, shares, images, seed):
        total = sum(shares) // gcd(*shares)
        runs = total // gcd(total, images)
        counts = Counter(number for run in range(runs) for number in balanced(shares, images, seed + run))
        assert [counts[number] * sum(shares) for number in range(len(shares))] == [
            runs * images * share for share in shares
        ]

    @pytest.mark.parametrize("groups", range(1, 9))
    def test_queued_one_by_one_any_k_runs_in_a_row_show_each_of_k_once(self, groups):
        for first in range(20):
            assert sorted(balanced([1] * groups, 1, first + run)[0] for run in range(groups)) == list(range(groups))

    def test_neighbouring_runs_mix_unequal_shares(self):
        """5 : 3 : 2 over ten single runs: never the five of the first one after the other."""
        shown = "".join("abc"[balanced([5, 3, 2], 1, run)[0]] for run in range(100))
        assert "aaa" not in shown
        assert Counter(shown) == {"a": 50, "b": 30, "c": 20}

    def test_places_are_shuffled_by_the_seed(self):
        """Each image of a batch sees each of four concepts about equally often."""
        for image in range(4):
            counts = Counter(balanced([1] * 4, 4, seed)[image] for seed in range(2000))
            assert all(430 < count < 570 for count in counts.values())

    def test_small_shares_are_not_rounded_away(self):
        """Crossing axes multiplies shares: all small is equal, and one in many comes at last."""
        assert Counter(balanced([1e-6, 1e-6], 4, 0)) == {0: 2, 1: 2}
        assert 1 in {number for seed in range(400) for number in balanced([1, 3e-5], 64, seed)}

    def test_a_share_of_nothing_gets_nothing(self):
        assert 1 not in {number for seed in range(50) for number in balanced([1, 0, 2.5], 7, seed)}


class TestDrawn:
    @pytest.mark.parametrize("shares", [[1, 1], [1, 1, 1], [5, 3, 2], [1, 2, 3, 4, 0.5]])
    @pytest.mark.parametrize("how", ["one batch", "one run each"])
    def test_10_000_draws_pass_a_chi_square_test(self, shares, how):
        if how == "one batch":
            counts = Counter(drawn(shares, 10_000, seed=11))
        else:
            counts = Counter(drawn(shares, 1, seed)[0] for seed in range(10_000))
        expected = [10_000 * share / sum(shares) for share in shares]
        statistic = sum((counts[number] - e) ** 2 / e for number, e in enumerate(expected))
        assert statistic < CHI_SQUARE_LIMITS[len(shares) - 1]

    def test_draws_are_independent(self):
        """After a first there comes a first as often as elsewhere."""
        given = drawn([1, 1], 10_000, seed=3)
        same = sum(a == b for a, b in pairwise(given))
        assert abs(same - 5000) < 200

    def test_a_share_of_nothing_is_never_drawn(self):
        assert set(drawn([0, 1, 0], 1000, seed=0)) == {1}


def test_the_same_seed_gives_the_same_on_every_platform():
    """Written down once, on one machine: another one must agree."""
    assert balanced([1, 1, 1], 12, 42) == GOLDEN_BALANCED
    assert balanced([0.5, 0.3, 0.2], 7, 2**64 - 1) == GOLDEN_UNEVEN
    assert drawn([1, 1, 1], 12, 42) == GOLDEN_DRAWN


GOLDEN_BALANCED = [0, 2, 1, 2, 0, 0, 2, 2, 0, 1, 1, 1]
GOLDEN_UNEVEN = [0, 0, 0, 1, 0, 2, 1]
GOLDEN_DRAWN = [1, 0, 0, 0, 2, 2, 2, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("how", [balanced, drawn])
class TestRefusals:
    def test_no_shares(self, how):
        with pytest.raises(ShareError, match="connect at least one"):
            how([], 4, 0)

    @pytest.mark.parametrize("shares", [[0.0], [0, 0, 0]])
    def test_all_zero(self, how, shares):
        with pytest.raises(ShareError, match="All shares are 0"):
            how(shares, 4, 0)

    @pytest.mark.parametrize("bad", [-1, float("nan"), float("inf")])
    def test_negative_or_no_number(self, how, bad):
        with pytest.raises(ShareError, match="Shares must be 0 or more"):
            how([1, bad], 4, 0)
