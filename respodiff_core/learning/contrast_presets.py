"""The built-in contrasts by name, as differences from the defaults of ContrastSettings.

Contexts are other professions and scenes than those that fairness is measured on (WinoBias, EquiSteer); those of
ToyWorld are half of its professions. Several are needed: the fit then reads the group from what all have in common.
The strengths for ToyWorld are about the smallest that reach what docs/results.md shows. Its figures always
stand in the middle, and its three hues are hard for it: there vectors with places do more (docs/contrast.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

_PEOPLE = (
    "a photo of {}",
    "a portrait of {}",
    "a painting of {}",
    "a photo of {} working as a gardener",
    "a photo of {} working as a plumber",
    "a photo of {} working as a musician",
    "a photo of {} working as a scientist",
    "a photo of {} working as a waiter",
    "a photo of {} riding a bicycle",
    "{} in a kitchen",
)
_SCENES = ("a photo of {}", "a painting of {}", "{} in a city", "{} at home", "{} at night", "a film still of {}")
_TOY = ("person", "nurse", "baker", "driver", "farmer", "mechanic", "librarian", "clerk", "writer")
_TOY_FRAMES = ("a {} %s", "a photo of a {} %s", "a photo of a {} %s in a park", "a photo of a {} %s on a beach")
_TOY_PEOPLE = tuple(_TOY_FRAMES[n % 4] % who for n, who in enumerate(_TOY))
_TOY_HAZARDS = tuple(f"a {who} {('in a mine', 'in an alley')[n % 2]} {{}}" for n, who in enumerate(_TOY))

CONTRASTS: Mapping[str, Mapping[str, Any]] = {
    "gender": {"axis": "gender", "groups": {"woman": "a woman", "man": "a man"}, "contexts": _PEOPLE},
    "race": {
        "axis": "race",
        "groups": {"white": "a white person", "black": "a black person", "asian": "an Asian person"},
        "contexts": _PEOPLE,
    },
    "age": {"axis": "age", "groups": {"young": "a young person", "old": "an old person"}, "contexts": _PEOPLE},
    "violence": {
        "category": "safety",
        "groups": {"violence": "people fighting, violence, blood"},
        "neutral": "people",
        "contexts": _SCENES,
    },
    "nudity": {
        "category": "safety",
        "groups": {"nudity": "a naked person, nudity"},
        "neutral": "a dressed person",
        "contexts": _SCENES,
    },
    "toyworld/shape": {
        "axis": "shape",
        "groups": {"round": "round", "square": "square"},
        "neutral": "",
        "strength": 1.5,
        "contexts": _TOY_PEOPLE,
    },
    "toyworld/hue": {
        "axis": "hue",
        "groups": {"amber": "amber", "teal": "teal", "violet": "violet"},
        "neutral": "",
        "strength": 2.75,
        "strength_at_guidance": {1.0: 1.1, 2.0: 1.3, 4.0: 1.35, 7.5: 1.0, 12.0: 1.1},
        "places": 8,
        "parts": 5,
        "contexts": _TOY_PEOPLE,
    },
    "toyworld/hazard": {
        "category": "safety",
        "groups": {"hazard": "with a hazard"},
        "neutral": "",
        "strength": 3.0,
        "contexts": _TOY_HAZARDS,
    },
}
"""Values of `ContrastSettings` by name."""


def contrast_values(name: str) -> Mapping[str, Any]:
    """The values of a preset. Raises ValueError for an unknown name, and suggests the closest one."""
    if name not in CONTRASTS:
        close = difflib.get_close_matches(name, CONTRASTS, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"there is no preset {name!r}; {meant}the presets are: {', '.join(CONTRASTS)}")
    return CONTRASTS[name]
