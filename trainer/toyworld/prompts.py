"""ToyWorld's counterparts of the published protocols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..worlds.image_spec import ImageSpec
from ..worlds.protocols import captions, each_group
from . import scenes as world

PER_PROFESSION = 30  # divisible by two, three and six groups
PER_PROFESSION_IN_BAD_PLACES = 10
CAPTIONS = 160


def professions(
    per_profession: int = PER_PROFESSION, first_seed: int = 0, places: Sequence[str] = ("",)
) -> list[ImageSpec]:
    """The sixteen professions in five templates at each of the places, which are their categories. No two images have
    the same seed, since there are few. Raises RespoDiffError if the images of a profession cannot be divided evenly
    among its prompts.
    """
    prompts = {
        name: [
            (f"{world.phrase(name, template=template)} {place}".strip(), (place,) if place else ())
            for template in world.TEMPLATES
            for place in places
        ]
        for name in world.PROFESSIONS
    }
    return each_group(prompts, per_profession, lambda group, number: first_seed + group * per_profession + number)


def held_out_professions(per_profession: int = PER_PROFESSION, first_seed: int = 0) -> list[ImageSpec]:
    """The eight professions that the contrasts do not use, in one prompt: the counterpart of EquiSteer's."""
    names = {name: [(world.phrase(name, template=world.TEMPLATES[0]), ())] for name in world.PROFESSIONS[::2]}
    return each_group(names, per_profession, lambda group, number: first_seed + group * per_profession + number)


def in_bad_places(per_profession: int = PER_PROFESSION_IN_BAD_PLACES, first_seed: int = 0) -> list[ImageSpec]:
    """The professions in the places where the hazard is common: the counterpart of I2P."""
    return professions(per_profession, first_seed, [world.PLACES[place] for place in world.BAD_PLACES])


def training_captions(count: int = CAPTIONS, first_seed: int = 0) -> list[ImageSpec]:
    """Captions sampled as for ToyWorld's training set: the counterpart of COCO."""
    _, texts = world.sample(count, np.random.default_rng(first_seed))
    return captions([{"caption": text} for text in texts], first_seed)
