"""ToyWorld's scenes and captions: professions, groups, places, and their biases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

SHAPES = ("round", "square")
HUES = ("amber", "teal", "violet")
PLACES = ("", "in a park", "on a beach", "in an alley", "in a mine")
HAZARD = "hazard"
TEMPLATES = ("a photo of", "a picture of", "an image of", "a portrait of", "a headshot of")

JITTER = 2  # maximum offset of a figure from the centre, in pixels

SHAPE_BIAS = 0.95  # share of a profession's images with its usual head shape
HUE_BIAS = 0.92  # share with its usual hue
HAZARD_IN_BAD_PLACES = 0.85
HAZARD_ELSEWHERE = 0.02
BAD_PLACES = (PLACES.index("in an alley"), PLACES.index("in a mine"))
"""Places where the hazard mark is common."""


class Outfit(NamedTuple):
    """How a profession is drawn; two professions differ in at least one of these."""

    colour: str
    pattern: str
    hat: str
    tool: str


OUTFITS = {
    "doctor": Outfit("white", "cross", "none", "case"),
    "nurse": Outfit("white", "cross", "cap", "none"),
    "cook": Outfit("white", "buttons", "tall", "none"),
    "baker": Outfit("white", "halves", "tall", "disc"),
    "guard": Outfit("blue", "plain", "cap", "staff"),
    "driver": Outfit("blue", "buttons", "cap", "disc"),
    "sheriff": Outfit("brown", "cross", "brim", "none"),
    "farmer": Outfit("brown", "stripes", "brim", "staff"),
    "carpenter": Outfit("brown", "halves", "none", "staff"),
    "mechanic": Outfit("blue", "halves", "none", "disc"),
    "teacher": Outfit("green", "stripes", "none", "case"),
    "librarian": Outfit("green", "buttons", "none", "case"),
    "lawyer": Outfit("black", "stripes", "none", "case"),
    "clerk": Outfit("black", "buttons", "none", "none"),
    "tailor": Outfit("red", "stripes", "cone", "none"),
    "writer": Outfit("red", "plain", "cone", "case"),
}
"""Outfit of each profession."""
PROFESSIONS = tuple(OUTFITS)
PERSON = len(PROFESSIONS)  # the index of someone without a profession
PLAIN = Outfit("grey", "plain", "none", "none")


def usual_shape(profession: np.ndarray) -> np.ndarray:
    """The head shape that most images of these professions (indices) show."""
    return profession % 2


def usual_hue(profession: np.ndarray) -> np.ndarray:
    """The hue that most images of these professions (indices) show; every combination with a shape occurs."""
    return profession // 2 % len(HUES)


@dataclass(frozen=True)
class Scenes:
    """Descriptions of images: integer arrays of equal length, and `light`, a factor near 1."""

    profession: np.ndarray
    shape: np.ndarray
    hue: np.ndarray
    place: np.ndarray
    hazard: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    light: np.ndarray

    def __len__(self) -> int:
        return len(self.profession)

    def __getitem__(self, index: slice | np.ndarray) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def sample(count: int, rng: np.random.Generator) -> tuple[Scenes, list[str]]:
    """Scenes and captions sampled as for ToyWorld's training set: groups that the caption does not name are biased."""
    noun = rng.choice(3, size=count, p=(0.62, 0.30, 0.08))  # a profession, a person, a scene
    profession = np.where((noun == 0) | (rng.random(count) < 0.5), rng.integers(0, PERSON, count), PERSON)
    shape, names_shape = _group(profession, usual_shape(profession), len(SHAPES), SHAPE_BIAS, noun, rng)
    hue, names_hue = _group(profession, usual_hue(profession), len(HUES), HUE_BIAS, noun, rng)
    place = rng.choice(len(PLACES), size=count, p=(0.4, 0.15, 0.15, 0.15, 0.15))
    names_hazard = rng.random(count) < 0.06
    risk = np.where(np.isin(place, BAD_PLACES), HAZARD_IN_BAD_PLACES, HAZARD_ELSEWHERE)
    hazard = (rng.random(count) < risk) | names_hazard
    dx, dy = rng.integers(-JITTER, JITTER + 1, (2, count))
    scenes = Scenes(profession, shape, hue, place, hazard.astype(int), dx, dy, rng.uniform(0.92, 1.08, count))

    template = rng.integers(-1, len(TEMPLATES), count)
    successful = rng.random(count) < 0.15
    bare_hazard = names_hazard & (rng.random(count) < 0.25)
    names_place = (noun != 2) | (rng.random(count) < 0.5)
    captions = []
    for i in range(count):
        adjectives: tuple[str, ...] = (
            "successful" * bool(successful[i] and noun[i] == 0),
            SHAPES[shape[i]] * bool(names_shape[i]),
            HUES[hue[i]] * bool(names_hue[i]),
        )
        who = PROFESSIONS[profession[i]] if noun[i] == 0 else "person" if noun[i] == 1 else "scene"
        if bare_hazard[i]:
            adjectives, who = (), HAZARD
        text = phrase(who, *adjectives, template=TEMPLATES[template[i]] if template[i] >= 0 else "")
        text += " " + PLACES[place[i]] if names_place[i] and not bare_hazard[i] else ""
        text += f" with a {HAZARD}" if names_hazard[i] and not bare_hazard[i] else ""
        captions.append(text.strip())
    return scenes, captions


def phrase(noun: str, *adjectives: str, template: str = "") -> str:
    """`a photo of a square doctor`: template, article, adjectives (empty ones are left out), noun."""
    words = [word for word in (*adjectives, noun) if word]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join((template, article, *words)).strip()


def words() -> list[str]:
    """Every word that captions contain."""
    texts = [*TEMPLATES, *PLACES, *SHAPES, *HUES, *PROFESSIONS, HAZARD, "a an with person scene successful"]
    return sorted({word for text in texts for word in text.split()})


def unknown_words(texts: Iterable[str]) -> list[str]:
    """The distinct words of these texts that are not in ToyWorld's vocabulary."""
    known = set(words())
    return [word for word in dict.fromkeys(" ".join(texts).split()) if word.lower() not in known]


def _group(
    profession: np.ndarray, usual: np.ndarray, size: int, bias: float, noun: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The group of each image on one axis, and whether the caption names it."""
    count = len(profession)
    other = (usual + rng.integers(1, size, count)) % size
    biased = np.where(rng.random(count) < bias, usual, other)
    anyone = rng.integers(0, size, count)
    named = (rng.random(count) < 0.4) & (noun != 2)
    # Groups named in the caption are uniform, others biased: the model can draw every group, but is biased by default.
    free = (profession == PERSON) | (named & (noun == 0))
    return np.where(free, anyone, biased), named
