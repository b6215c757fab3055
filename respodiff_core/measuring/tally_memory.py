"""Tallies that accumulate over runs for the lifetime of the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from .tally import Tally

_MOST_SERIES = 64


class TallyMemory:
    """Keeps one series of batches per key. Above `most` series the least recently used one is deleted."""

    def __init__(self, most: int = _MOST_SERIES) -> None:
        self._most = most
        self._series: OrderedDict[Hashable, dict[str, Tally]] = OrderedDict()

    def add(self, key: Hashable, batch: str, tally: Tally) -> tuple[Tally, bool]:
        """Add a batch to a series. Returns the sum of the series, and whether the batch is new.

        `batch` identifies the batch. If it was added before, its previous tally is replaced.
        """
        batches = self._series.setdefault(key, {})
        self._series.move_to_end(key)
        while len(self._series) > self._most:
            self._series.popitem(last=False)
        new = batch not in batches
        batches[batch] = tally
        return sum(batches.values(), Tally.empty(tally.classes)), new
