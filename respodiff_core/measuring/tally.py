"""Counts of the classes that a classifier saw in images, by the class requested, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .metrics import deviation_of_shares, lowest

_DRAWS = 20_000  # gives the chance level to within about 0.002


@dataclass(frozen=True)
class Tally:
    """`counts[requested][seen]`: one row and one column per class; the last row is for images without a request."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def empty(cls, classes: Sequence[str]) -> Tally:
        return cls(tuple(classes), ((0,) * len(classes),) * (len(classes) + 1))

    def add(self, seen: Sequence[int], requested: Sequence[int | None] | None = None) -> Tally:
        """A tally with further images: the class number seen in each, and the one requested (None if there is none).

        Raises ValueError if the two sequences differ in length.
        """
        rows = [list(row) for row in self.counts]
        for shown, wanted in zip(seen, requested or [None] * len(seen), strict=True):
            rows[len(self.classes) if wanted is None else wanted][shown] += 1
        return replace(self, counts=tuple(map(tuple, rows)))

    def __add__(self, other: Tally) -> Tally:
        """The sum of both. Raises ValueError if the classes differ."""
        if self.classes != other.classes:
            raise ValueError(f"tallies with different classes cannot be added: {self.classes} and {other.classes}")
        pairs = zip(self.counts, other.counts, strict=True)
        return replace(self, counts=tuple(tuple(a + b for a, b in zip(*rows, strict=True)) for rows in pairs))

    @property
    def images(self) -> int:
        """The number of images counted."""
        return sum(self.seen)

    @property
    def seen(self) -> tuple[int, ...]:
        """Number of images seen as each class."""
        return tuple(map(sum, zip(*self.counts, strict=True)))

    @property
    def requested(self) -> tuple[int, ...]:
        """Number of images for which each class was requested."""
        return tuple(map(sum, self.counts[:-1]))

    @property
    def unsteered(self) -> tuple[int, ...]:
        """Number of images seen as each class among those without a requested class."""
        return self.counts[-1]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each class among all images. Raises ValueError if there are no images."""
        if not self.images:
            raise ValueError("shares need at least one image")
        return tuple(count / self.images for count in self.seen)

    @property
    def deviation_ratio(self) -> float:
        """0 if every class has the same share, 1 if all images are of one class (see `metrics.deviation_ratio`)."""
        return float(deviation_of_shares(np.array(self.shares)))

    @property
    def steering_accuracy(self) -> tuple[float | None, ...]:
        """For each class: the share of the images requested to show it that do; None if it was never requested."""
        rows = enumerate(self.counts[:-1])
        return tuple(row[number] / sum(row) if sum(row) else None for number, row in rows)

    @property
    def worst(self) -> tuple[str, float] | None:
        """The class with the lowest steering accuracy, and this accuracy; None if no class was requested."""
        known = {n: figure for n, figure in enumerate(self.steering_accuracy) if figure is not None}
        if not known:
            return None
        least = lowest(known)
        return next((self.classes[n], least) for n, figure in known.items() if figure == least)

    def summary(self) -> str:
        """All figures as several lines of text. Raises ValueError if there are no images."""
        chance = deviation_by_chance(self.images, len(self.classes))
        counted = f"{self.images} images" if self.images > 1 else "1 image"
        shown = (
            f"{name} {n} ({share:.0%})" for name, n, share in zip(self.classes, self.seen, self.shares, strict=True)
        )
        lines = [
            f"{counted}, seen as: {', '.join(shown)}",
            f"Deviation ratio {self.deviation_ratio:.2f} (0: balanced, 1: all of one class). "
            f"An unbiased random sample of {counted} has about {chance:.2f} on average.",
        ]
        if self.worst is None:
            lines.append("No class was requested, so there is no steering accuracy.")
        else:
            lines.append(f"Steering accuracy {self.worst[1]:.2f} (lowest class: {self.worst[0]}):")
            lines += [self._row(number) for number, requested in enumerate(self.requested) if requested]
            if sum(self.unsteered):
                lines.append(f"  no class requested: {sum(self.unsteered)}, seen as {self._named(self.unsteered)}")
        return "\n".join(lines)

    def _row(self, number: int) -> str:
        seen, accuracy = self._named(self.counts[number]), self.steering_accuracy[number]
        return f"  {self.classes[number]} requested: {self.requested[number]}, seen as {seen} ({accuracy:.2f})"

    def _named(self, row: Sequence[int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in zip(self.classes, row, strict=True) if count)


def deviation_by_chance(images: int, classes: int) -> float:
    """The expected deviation ratio of `images` independent draws from equally likely classes: the noise level."""
    draws = np.random.default_rng(0).multinomial(images, [1 / classes] * classes, size=_DRAWS)
    return float(deviation_of_shares(draws / images).mean())
