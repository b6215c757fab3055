"""Counts of what a classifier saw in pictures, by what they were asked to show, and the figures that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .metrics import deviation_of_shares, lowest

_DRAWS = 20_000  # by which the chance level is known to about 0.002


@dataclass(frozen=True)
class Tally:
    """`counts[asked][seen]`: a column for each class, and a row for each, with one more for pictures asked for none."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def empty(cls, classes: Sequence[str]) -> Tally:
        return cls(tuple(classes), ((0,) * len(classes),) * (len(classes) + 1))

    def add(self, seen: Sequence[int], asked: Sequence[int | None] | None = None) -> Tally:
        """With further pictures: the class number seen in each, and the one it was asked for (None: none)."""
        rows = [list(row) for row in self.counts]
        for shown, wanted in zip(seen, asked or [None] * len(seen), strict=True):
            rows[len(self.classes) if wanted is None else wanted][shown] += 1
        return replace(self, counts=tuple(map(tuple, rows)))

    def __add__(self, other: Tally) -> Tally:
        """Both together. ValueError where the classes differ."""
        if self.classes != other.classes:
            raise ValueError(f"tallies of other classes: {self.classes} and {other.classes}")
        pairs = zip(self.counts, other.counts, strict=True)
        return replace(self, counts=tuple(tuple(a + b for a, b in zip(*rows, strict=True)) for rows in pairs))

    @property
    def pictures(self) -> int:
        return sum(self.seen)

    @property
    def seen(self) -> tuple[int, ...]:
        """Pictures of each class, whatever they were asked for."""
        return tuple(map(sum, zip(*self.counts, strict=True)))

    @property
    def asked(self) -> tuple[int, ...]:
        """Pictures that were asked for each class, whatever they show."""
        return tuple(map(sum, self.counts[:-1]))

    @property
    def unsteered(self) -> tuple[int, ...]:
        """What was seen in pictures that were asked for no class."""
        return self.counts[-1]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each class among all pictures. ValueError where there are none."""
        if not self.pictures:
            raise ValueError("no pictures, no shares")
        return tuple(count / self.pictures for count in self.seen)

    @property
    def deviation_ratio(self) -> float:
        """Of all pictures: 0 where every class has the same share, 1 where all are of one class."""
        return float(deviation_of_shares(np.array(self.shares)))

    @property
    def steering_accuracy(self) -> tuple[float | None, ...]:
        """For each class: the share of the pictures asked for it that show it; None where it was never asked for."""
        rows = enumerate(self.counts[:-1])
        return tuple(row[number] / sum(row) if sum(row) else None for number, row in rows)

    @property
    def worst(self) -> tuple[str, float] | None:
        """The class of the lowest steering accuracy, and that; None where none was asked for."""
        known = {n: figure for n, figure in enumerate(self.steering_accuracy) if figure is not None}
        if not known:
            return None
        least = lowest(known)
        return next((self.classes[n], least) for n, figure in known.items() if figure == least)

    def summary(self) -> str:
        """Several lines to read; at least one picture."""
        chance = deviation_by_chance(self.pictures, len(self.classes))
        of = f"{self.pictures} pictures" if self.pictures > 1 else "1 picture"
        shown = (
            f"{name} {n} ({share:.0%})" for name, n, share in zip(self.classes, self.seen, self.shares, strict=True)
        )
        lines = [
            f"{of}, seen as: {', '.join(shown)}",
            f"Deviation ratio {self.deviation_ratio:.2f}: 0 is even, 1 is all of one class. "
            f"Drawn evenly by chance, {of} would show about {chance:.2f}.",
        ]
        if self.worst is None:
            lines.append("No class was asked for, so there is no steering accuracy.")
        else:
            lines.append(f"Steering accuracy {self.worst[1]:.2f}, that of {self.worst[0]}, the lowest:")
            lines += [self._row(number) for number, asked in enumerate(self.asked) if asked]
            if sum(self.unsteered):
                lines.append(f"  asked for no class: {sum(self.unsteered)}, seen as {self._named(self.unsteered)}")
        return "\n".join(lines)

    def _row(self, number: int) -> str:
        asked, figure = f"asked for {self.classes[number]}: {self.asked[number]}", self.steering_accuracy[number]
        return f"  {asked}, seen as {self._named(self.counts[number])} ({figure:.2f})"

    def _named(self, row: Sequence[int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in zip(self.classes, row, strict=True) if count)


def deviation_by_chance(pictures: int, classes: int) -> float:
    """The mean deviation ratio of pictures that are each drawn from classes of even shares: what noise looks like."""
    draws = np.random.default_rng(0).multinomial(pictures, [1 / classes] * classes, size=_DRAWS)
    return float(deviation_of_shares(draws / pictures).mean())
