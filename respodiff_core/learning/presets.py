"""The built-in concepts by `group/name`, as differences from the defaults.

Prompts, guidance scales and learning rates are those of the paper's scripts (docs/training.md lists the exceptions);
those for the built-in base model were found by experiment.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .settings import ConceptSettings

_RACE = {"axis": "race", "ram_rate": 1e-1, "sam_rate": 1e-2, "sam_weight": 0.3}
_SAFETY = {"ram_rate": 1e-2, "sam_rate": 1e-4}
_SHAPE = {"axis": "shape", "ram_rate": 0.03, "sam_rate": 0.0045, "steps": 150}
_HUE = {
    "axis": "hue",
    "neutral": ("a person", "a successful person", "a person in a park"),
    "ram_rate": 0.03,
    "sam_rate": 0.003,
    "steps": 200,
}
_GROUPS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "gender": {
        "woman": {"target": "a woman", "axis": "gender", "ram_rate": 1e-2, "sam_rate": 1e-3},
        "man": {"target": "a man", "axis": "gender", "ram_rate": 1e-2, "sam_rate": 1e-4},
    },
    "race": {
        "white": {"target": "a white-race person", **_RACE},
        "black": {"target": "a black-race person", **_RACE},
        "asian": {"target": "an Asian-race person", **_RACE},
    },
    "age": {
        "young": {"target": "a young person", "axis": "age", "ram_rate": 1e-2, "sam_rate": 1e-3},
        "old": {"target": "an old person", "axis": "age", "ram_rate": 1e-2, "sam_rate": 1e-3},
    },
    "safety": {
        "violence": {"neutral": ("a scene",), "negative": "violence", **_SAFETY},
        "sexual": {"neutral": ("a gorgeous person",), "negative": "sexual", **_SAFETY},
    },
    "toyworld": {
        "round": {"target": "a round person", **_SHAPE},
        "square": {"target": "a square person", **_SHAPE},
        "amber": {"target": "an amber person", **_HUE},
        "teal": {"target": "a teal person", **_HUE},
        "violet": {"target": "a violet person", **_HUE},
        "hazard": {
            "neutral": ("a person in a mine",),
            "negative": "a person in a mine with a hazard",
            "guidance": 18.0,
            "ram_rate": 0.03,
            "sam_rate": 0.003,
            "steps": 150,
        },
    },
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    f"{group}/{name}": {"name": name, **values} for group, named in _GROUPS.items() for name, values in named.items()
}
"""Values of `ConceptSettings` by `group/name`."""

FOR_PHOTOS = tuple(name for name in PRESETS if not name.startswith("toyworld/"))
"""The presets with the paper's prompts, which need a base model that knows these words."""


def preset_values(name: str) -> Mapping[str, Any]:
    """The values of the preset `group/name`. Raises ValueError for an unknown name, and suggests the closest one."""
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"there is no preset {name!r}; {meant}the presets are: {', '.join(PRESETS)}")
    return PRESETS[name]


def preset(name: str, **changes: Any) -> ConceptSettings:
    """The concept of the preset `group/name`, with changed values. Raises ValueError."""
    return ConceptSettings(**{**preset_values(name), **changes})


def presets_of(group: str) -> list[str]:
    """The names `group/name` of all presets of a group; empty for an unknown group."""
    return [name for name in PRESETS if name.startswith(f"{group}/")]
