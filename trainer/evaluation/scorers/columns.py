"""What scorers share: their columns as rows, and axes in their fingerprints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..scorer import Axis, Scores


def rows(columns: Mapping[str, Sequence[float | int | None]], count: int) -> list[Scores]:
    """The scores of each of `count` pictures, from columns that hold a value for each."""
    return [{name: column[number] for name, column in columns.items()} for number in range(count)]


def in_words(axes: Iterable[Axis]) -> list[str]:
    """For each axis, what its classes are told apart by."""
    return [f"{axis.name}: {' | '.join(axis.texts)}" for axis in axes]
