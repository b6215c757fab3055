"""Tallies that add up over runs, as long as the process lives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from .tally import Tally

_MOST_SERIES = 64


class TallyMemory:
    """Keeps a series of batches under each key; of too many series the one not added to for longest is forgotten."""

    def __init__(self, most: int = _MOST_SERIES) -> None:
        self._most = most
        self._series: OrderedDict[Hashable, dict[str, Tally]] = OrderedDict()

    def add(self, key: Hashable, batch: str, tally: Tally) -> tuple[Tally, bool]:
        """The sum of the series with this batch, and whether the batch is new.

        `batch` tells batches apart. One that comes again takes the place of its former count.
        """
        batches = self._series.setdefault(key, {})
        self._series.move_to_end(key)
        while len(self._series) > self._most:
            self._series.popitem(last=False)
        new = batch not in batches
        batches[batch] = tally
        return sum(batches.values(), Tally.empty(tally.classes)), new
