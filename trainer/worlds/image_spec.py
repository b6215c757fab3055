"""Image specs: prompts and seeds, with the attributes that figures are computed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_GROUPS, _SHOWN_EACH = 8, 4


@dataclass(frozen=True)
class ImageSpec:
    """One image to generate.

    `id` identifies it in files and tables, `group` is what figures are averaged within (a profession), and `categories`
    are the categories it counts in (I2P; possibly several). `turn` of `turns` is its index among the images of one
    prompt, over which the concepts of a variant are distributed; 0 of 0 if they are distributed over all images.
    """

    id: str
    prompt: str
    seed: int
    group: str = ""
    categories: tuple[str, ...] = ()
    turn: int = 0
    turns: int = 0


def samples_of(specs: Sequence[ImageSpec]) -> dict[str, list[str]]:
    """The ids of the images in the report: a few for each of some evenly spaced groups. Without groups, rows are
    labelled by image number.
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
    """At most `count` of the names, evenly spaced."""
    count = min(count, len(names))
    return [names[number * len(names) // count] for number in range(count)]
