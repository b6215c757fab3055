"""Assigns the images of a batch to groups according to target shares.

The same seed gives the same allocation on every platform and version: the only source of randomness is `random()` of
Python's Mersenne Twister, and its sequence for an integer seed is guaranteed not to change.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from math import gcd, isfinite, lcm
from random import Random

from ..errors import ShareError

_FINEST = 10_000  # shares are rounded to multiples of 1/10000 of the largest


def balanced(shares: Sequence[float], images: int, seed: int) -> list[int]:
    """The index of a share for each image, with counts as close to the shares as whole images allow.

    Each share gets its quota of images, rounded down or up. The seed rotates which shares are rounded up: over any
    W / gcd(W, images) runs with consecutive seeds the shares are met exactly, with W the sum of the shares as integers
    in lowest terms (with equal shares and one image per run: over as many runs as there are shares). The order of the
    images is shuffled by the seed. Raises ShareError for no shares, negative or non-finite shares, and all zero.
    """
    weights = _whole(shares)
    total = sum(weights)
    runs = total // gcd(total, images)
    # Systematic sampling: the remainders are laid end to end on a line, and a grid of step 1 selects those rounded up.
    # Consecutive runs shift the grid through all its offsets, by the golden ratio, so that neighbouring runs differ.
    shift = seed * _spread(runs) % runs * (total // runs)
    ends = [shift + end for end in accumulate((images * weight % total for weight in weights), initial=0)]
    extra = [end // total - start // total for start, end in pairwise(ends)]
    counts = [images * weight // total + one for weight, one in zip(weights, extra, strict=True)]
    places = [number for number, count in enumerate(counts) for _ in range(count)]
    random = Random(seed)
    order = [random.random() for _ in places]
    return [places[place] for place in sorted(range(len(places)), key=order.__getitem__)]


def drawn(shares: Sequence[float], images: int, seed: int) -> list[int]:
    """The index of a share for each image, drawn independently (arXiv 2509.15257, section 4). Raises ShareError."""
    limits = list(accumulate(_whole(shares)))
    random = Random(seed)
    return [bisect(limits, int(random.random() * limits[-1])) for _ in range(images)]


def _spread(runs: int) -> int:
    """A step coprime to `runs`, near the golden ratio: it visits all offsets, and consecutive ones are far apart."""
    step = round(runs * 0.6180339887498949)
    while gcd(step, runs) > 1:
        step += 1
    return step


def _whole(shares: Sequence[float]) -> list[int]:
    """The shares as integers in lowest terms. Raises ShareError."""
    if not shares:
        raise ShareError("There are no groups to assign to the images: connect at least one concept.")
    if not all(isfinite(share) and share >= 0 for share in shares):
        raise ShareError(f"Shares must be 0 or more, not {', '.join(f'{share:g}' for share in shares)}.")
    largest = max(shares)
    if not largest:
        raise ShareError("All shares are 0: set at least one share to more than 0, for example each to 1.")
    fractions = [_part(share, largest) for share in shares]
    scale = lcm(*(fraction.denominator for fraction in fractions))
    weights = [int(fraction * scale) for fraction in fractions]
    return [weight // gcd(*weights) for weight in weights]


def _part(share: float, largest: float) -> Fraction:
    """The share divided by the largest one, rounded; a positive share is never rounded to 0."""
    part = Fraction(share) / Fraction(largest)
    return max(part.limit_denominator(_FINEST), Fraction(bool(share), _FINEST))
