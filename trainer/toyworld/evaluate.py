"""How fair, safe and faithful ToyWorld is, with and without adapters, on professions no adapter was trained on.

Adapters are trained on persons without a profession, described without a template: all of both are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from ...respodiff_core.concept import Concept
from ...respodiff_core.diffusion import Schedule
from ...respodiff_core.metrics import lowest, mean_deviation_ratio, steering_accuracy
from ..base.model import BaseModel
from ..sampling import at_strengths, noise_of_seeds, sample
from .classifier import Seen, classify
from .world import BAD_PLACES, HUES, PERSON, PLACES, PROFESSIONS, SHAPES, TEMPLATES, phrase

AXES = {"shape": SHAPES, "hue": HUES}
"""The two groupings by their name in `Seen`: head shape (two) and hue (three)."""
UNSTEERED = -1

_ROWS = 48  # pictures at once, at most


@dataclass(frozen=True)
class Asked:
    """Pictures to make: prompts, each with its profession, its noise's seed and its concept's number (or -1)."""

    prompts: list[str]
    profession: np.ndarray
    seeds: np.ndarray
    concept: np.ndarray

    def rows(self, index: np.ndarray) -> Asked:
        """Some of them, by their places."""
        prompts = [self.prompts[row] for row in index]
        return Asked(prompts, self.profession[index], self.seeds[index], self.concept[index])

    def unsteered(self) -> Asked:
        """The same pictures without any concept."""
        return Asked(self.prompts, self.profession, self.seeds, np.full_like(self.concept, UNSTEERED))


@dataclass(frozen=True)
class Fairness:
    """Over all professions: the deviation ratio of one grouping, the share of pictures of the group asked for (by
    class), the share whose outfit is the profession's, and the distance to the closest true drawing."""

    deviation_ratio: float
    steering_accuracy: dict[int, float]
    profession_accuracy: float
    drawing_error: float

    @property
    def lowest_steering_accuracy(self) -> float:
        """Of the classes; NaN where nothing was steered."""
        return lowest(self.steering_accuracy) if self.steering_accuracy else float("nan")


@dataclass(frozen=True)
class Safety:
    """In places where the hazard is common: how often it shows, and how many outfits are right."""

    hazard_rate: float
    profession_accuracy: float
    drawing_error: float


Sampler = Callable[[Asked], torch.Tensor]
"""Makes the pictures (count, 3, 64, 64) in [0, 1] that are asked for."""


def fair_pictures(per_profession: int, classes: int, seed: int = 0) -> Asked:
    """Each profession so many times, in all templates; concepts in turn, so that each has the same share."""
    return _each_profession(per_profession, classes, seed, places=("",))


def unsafe_pictures(per_profession: int, seed: int = 0) -> Asked:
    """Each profession so many times in the places where the hazard is common, all steered by the first concept."""
    return _each_profession(per_profession, 1, seed, places=[PLACES[place] for place in BAD_PLACES])


def _each_profession(per_profession: int, classes: int, seed: int, places: Sequence[str]) -> Asked:
    number = np.arange(PERSON * per_profession)
    profession, turn = number // per_profession, number % per_profession
    prompts = [
        f"{phrase(PROFESSIONS[p], template=TEMPLATES[n % len(TEMPLATES)])} {places[n % len(places)]}".strip()
        for p, n in zip(profession.tolist(), turn.tolist(), strict=True)
    ]
    return Asked(prompts, profession, seed * 1_000_003 + number, turn % classes)


def by_concept(draw: Callable[[Asked, int], torch.Tensor], *, shown: bool = True) -> Sampler:
    """A sampler from one that makes a few pictures of one concept (its number, or UNSTEERED), with a bar."""

    def make(asked: Asked) -> torch.Tensor:
        pictures = torch.empty(len(asked.prompts), 3, 64, 64)
        with tqdm(total=len(asked.prompts), desc="pictures", unit="picture", disable=not shown, leave=False) as bar:
            for number in np.unique(asked.concept):
                (mine,) = np.nonzero(asked.concept == number)
                for rows in np.array_split(mine, -(-len(mine) // _ROWS)):
                    pictures[torch.from_numpy(rows)] = draw(asked.rows(rows), int(number))
                    bar.update(len(rows))
        return pictures

    return make


def sampler(
    base: BaseModel,
    concepts: Sequence[Concept] = (),
    *,
    steps: int = 50,
    guidance: float = 7.5,
    strength: float = 1.0,
    shown: bool = True,
) -> Sampler:
    """Sampling as the trainer does it."""
    schedule = Schedule.of(base.alphas_cumprod, steps)
    empty = base.encode_prompts([""])

    def draw(asked: Asked, number: int) -> torch.Tensor:
        strengths = [strength] * len(asked.prompts)
        z = sample(
            base.denoiser,
            schedule,
            noise_of_seeds(asked.seeds.tolist(), base.latent_size).to(empty.context.device),
            base.encode_prompts(asked.prompts),
            empty,
            guidance=guidance,
            steer=None if number == UNSTEERED else at_strengths(concepts[number], strengths),
        )
        return base.decode_latents(z)

    return by_concept(draw, shown=shown)


def fairness(asked: Asked, pictures: torch.Tensor, axis: str) -> Fairness:
    """The figures of pictures that were asked for, on one grouping."""
    seen = classify(pictures)
    labels: np.ndarray = getattr(seen, axis)
    steered = asked.concept != UNSTEERED
    return Fairness(
        mean_deviation_ratio(labels, asked.profession, len(AXES[axis])),
        steering_accuracy(labels[steered], asked.concept[steered]),
        _right_outfits(asked, seen),
        float(seen.error.mean()),
    )


def safety(asked: Asked, pictures: torch.Tensor) -> Safety:
    """The figures of pictures asked for in bad places."""
    seen = classify(pictures)
    return Safety(float(seen.hazard.mean()), _right_outfits(asked, seen), float(seen.error.mean()))


def _right_outfits(asked: Asked, seen: Seen) -> float:
    return float((seen.profession == asked.profession).mean())
