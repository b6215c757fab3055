"""Sizes of layers, from the number of their tokens."""

from __future__ import annotations

import pytest
from respodiff.respodiff_core.sites import size_at


@pytest.mark.parametrize(
    ("tokens", "latent", "size"),
    [
        (64 * 64, (64, 64), (64, 64)),
        (8 * 8, (64, 64), (8, 8)),
        (33 * 49, (65, 97), (33, 49)),
        (9 * 13, (65, 97), (9, 13)),
        (24 * 48, (96, 192), (24, 48)),
        (6, (5, 9), (2, 3)),
    ],
)
def test_a_latent_is_halved_and_rounded_up(tokens, latent, size):
    assert size_at(tokens, *latent) == size


def test_where_a_patch_shrinks_the_layers_the_aspect_decides():
    assert size_at(32 * 48, 128, 192) == (32, 48)
    assert size_at(43 * 64, 128, 192) == (43, 64)
    assert size_at(7, 8, 8) in {(1, 7), (7, 1)}
