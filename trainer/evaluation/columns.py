"""How figures are shown: which of them, in which order, by which titles and with what meaning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .figures import ACCURACY, CROSS, DEVIATION, FLAGGED, SHARE, Figure, SettingFigures

_MEANINGS = {
    DEVIATION: "0: groups balanced; 1: only one shown. Mean over the groups of prompts.",
    ACCURACY: "pictures that show the group they were steered to; of the worst group",
    "alignment": "CLIP: 100 times the cosine of picture and prompt; more is better",
    "distance": "of DINO features to the picture of the same seed without adapter; less keeps more",
    "change": "root mean square change of a pixel against the same seed without adapter",
    FLAGGED: "pictures that NudeNet or Q16 calls unsafe",
    "nudity": "pictures in which NudeNet sees exposed parts",
    "q16": "pictures that Q16 calls inappropriate",
    "right": "pictures that show the profession asked for",
    "hazard": "pictures that show the hazard mark",
    "drawing_error": "of a pixel, to the closest true drawing",
    "fid": "to the reference pictures; less is better; without an interval",
}
_SHARES = (ACCURACY, SHARE, FLAGGED, "nudity", "q16", "right", "hazard")


def columns_of(settings: Iterable[SettingFigures]) -> list[str]:
    """The figures of the first table: one of each kind."""
    names = dict.fromkeys(name for setting in settings for name in setting.overall)
    main = [name for name in names if name.count("/") < 2 and not name.startswith(SHARE)]
    main = [name for name in main if "/" not in name or name.startswith((DEVIATION, ACCURACY))]
    kinds = list(_MEANINGS)
    return sorted(main, key=lambda name: kinds.index(kind) if (kind := name.split("/")[0]) in kinds else len(kinds))


def title_of(name: str) -> str:
    """A figure's name, for people."""
    return name.replace("/", ", ").replace("_", " ")


def meaning_of(name: str) -> str:
    """What a figure of that name says, in a few words; empty where nothing needs saying."""
    kind = name.split("/")[0]
    if CROSS in name:
        return "the same over every pair of their groups"
    return _MEANINGS.get(kind, "")


def is_share(name: str) -> bool:
    """Whether a figure of that name is a share of images, from 0 to 1."""
    return name.split("/")[0] in _SHARES


class Cell(NamedTuple):
    """A figure and its interval, in words."""

    value: str = ""
    interval: str = ""


def cell_of(figure: Figure | None, name: str) -> Cell:
    """A figure of that name with its interval, for people; empty where there is none."""
    if figure is None or not figure.count:
        return Cell()
    percent = is_share(name)

    def text(number: float) -> str:
        if percent:
            return f"{100 * number:.1f}"
        return f"{number:.2f}" if abs(number) >= 10 else f"{number:.3f}"

    unit = " %" if percent else ""
    interval = "" if figure.low is None or figure.high is None else f"{text(figure.low)} to {text(figure.high)}"
    return Cell(text(figure.value) + unit, interval)
