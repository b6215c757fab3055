"""Differences between two JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Place = tuple[str, ...]
"""Keys from the outside in; entries of a list are numbered from 1."""


def differences(
    begun: Any, now: Any, may_change: Callable[[Place], bool] = lambda _: False, place: Place = ()
) -> list[str]:
    """The places, as dotted names in order, where two JSON values differ; a missing key counts as None.

    Tables are compared key by key, lists of equally many tables entry by entry. Places that `may_change` are skipped.
    """
    if isinstance(begun, Mapping) and isinstance(now, Mapping):
        inside = [(key, begun.get(key), now.get(key)) for key in sorted(begun.keys() | now.keys())]
    elif _are_tables(begun) and _are_tables(now) and len(begun) == len(now):
        inside = [(str(number), *pair) for number, pair in enumerate(zip(begun, now, strict=True), 1)]
    else:
        return [] if begun == now else [".".join(place)]
    return [
        found
        for key, one, other in inside
        if not may_change((*place, key))
        for found in differences(one, other, may_change, (*place, key))
    ]


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)
