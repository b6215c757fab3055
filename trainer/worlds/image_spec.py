"""What is asked of a model: prompts and seeds, with all that figures need to know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_GROUPS, _SHOWN_EACH = 8, 4


@dataclass(frozen=True)
class ImageSpec:
    """One picture to make.

    `id` names it in files and tables, `group` what it is averaged within (a profession), `categories` what it counts
    for (I2P's, several at once). `turn` of `turns` is its place among the pictures of one prompt that the concepts of a
    variant share; 0 of 0 where they are shared over all pictures.
    """

    id: str
    prompt: str
    seed: int
    group: str = ""
    categories: tuple[str, ...] = ()
    turn: int = 0
    turns: int = 0


def samples_of(specs: Sequence[ImageSpec]) -> dict[str, list[str]]:
    """Some groups, spread over all, and a few of each one's pictures, by id: what the report shows. Prompts without
    groups make rows of their own, by number.
    """
    groups: dict[str, list[str]] = {}
    for one in specs:
        groups.setdefault(one.group, []).append(one.id)
    if len(groups) == 1:
        (ids,) = groups.values()
        ids = _spread(ids, _SHOWN_GROUPS * _SHOWN_EACH)
        starts = range(0, len(ids), _SHOWN_EACH)
        return {f"{start + 1} to {start + _SHOWN_EACH}": ids[start : start + _SHOWN_EACH] for start in starts}
    return {name: _spread(groups[name], _SHOWN_EACH) for name in _spread(list(groups), _SHOWN_GROUPS)}


def _spread(names: list[str], count: int) -> list[str]:
    """So many of them, evenly spaced."""
    count = min(count, len(names))
    return [names[number * len(names) // count] for number in range(count)]
