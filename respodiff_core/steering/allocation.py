"""Which image of a batch gets which concept: target shares into a place for each image.

The same seed gives the same allocation on every platform and version: the only randomness is the `random()` of
Python's Mersenne Twister, whose sequence for an integer seed is guaranteed never to change.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from math import gcd, isfinite, lcm
from random import Random

from ..errors import ShareError

_FINEST = 10_000  # shares are rounded to so many parts of the largest


def balanced(shares: Sequence[float], images: int, seed: int) -> list[int]:
    """For each image the number of its share, in numbers as near to the shares as whole images allow.

    Every share gets the whole part of what is due to it or one more. Who gets the images that remain goes round with
    the seed: in any W / gcd(W, images) runs whose seeds follow one another the shares are met exactly, where W is
    the sum of the shares as whole numbers in lowest terms (with equal shares and one image a run: in as many runs as
    there are shares). Which image gets what is shuffled by the seed. Raises ShareError.
    """
    weights = _whole(shares)
    total = sum(weights)
    runs = total // gcd(total, images)
    # Systematic sampling: the remainders lie end to end on a line, and a grid of step 1 picks who gets one more.
    # The runs shift the grid through all its places; by the golden ratio, so that neighbouring runs differ.
    shift = seed * _spread(runs) % runs * (total // runs)
    ends = [shift + end for end in accumulate((images * weight % total for weight in weights), initial=0)]
    extra = [end // total - start // total for start, end in pairwise(ends)]
    counts = [images * weight // total + one for weight, one in zip(weights, extra, strict=True)]
    places = [number for number, count in enumerate(counts) for _ in range(count)]
    random = Random(seed)
    order = [random.random() for _ in places]
    return [places[place] for place in sorted(range(len(places)), key=order.__getitem__)]


def drawn(shares: Sequence[float], images: int, seed: int) -> list[int]:
    """For each image the number of a share, each drawn by itself, as in the paper (section 4). Raises ShareError."""
    limits = list(accumulate(_whole(shares)))
    random = Random(seed)
    return [bisect(limits, int(random.random() * limits[-1])) for _ in range(images)]


def _spread(runs: int) -> int:
    """A step that visits all of so many places before it comes back, and far from the last one each time."""
    step = round(runs * 0.6180339887498949)
    while gcd(step, runs) > 1:
        step += 1
    return step


def _whole(shares: Sequence[float]) -> list[int]:
    """The shares as whole numbers in lowest terms."""
    if not shares:
        raise ShareError("There is nothing to share among: connect at least one concept.")
    if not all(isfinite(share) and share >= 0 for share in shares):
        raise ShareError(f"Shares must be 0 or more, not {', '.join(f'{share:g}' for share in shares)}.")
    largest = max(shares)
    if not largest:
        raise ShareError("All shares are 0: give at least one concept a share, for instance 1 to each.")
    fractions = [_part(share, largest) for share in shares]
    scale = lcm(*(fraction.denominator for fraction in fractions))
    weights = [int(fraction * scale) for fraction in fractions]
    return [weight // gcd(*weights) for weight in weights]


def _part(share: float, largest: float) -> Fraction:
    """A share in parts of the largest; a small one is never rounded away."""
    part = Fraction(share) / Fraction(largest)
    return max(part.limit_denominator(_FINEST), Fraction(bool(share), _FINEST))
