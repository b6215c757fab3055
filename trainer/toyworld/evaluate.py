"""How fair, safe and faithful ToyWorld is, with and without adapters, on professions no adapter was trained on.

Adapters are trained on "a person" and "a scene"; every profession and every template is held out.
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

_ROWS = 48  # pictures in one sampler call


@dataclass(frozen=True)
class Asked:
    """Pictures to make: prompts, each with its profession, its noise's seed and its concept's number (or -1)."""

    prompts: list[str]
    profession: np.ndarray
    seeds: np.ndarray
    concept: np.ndarray

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
    number = np.arange(PERSON * per_profession)
    profession, turn = number // per_profession, number % per_profession
    prompts = [
        phrase(PROFESSIONS[p], template=TEMPLATES[n % len(TEMPLATES)]) for p, n in zip(profession, turn, strict=True)
    ]
    return Asked(prompts, profession, seed * 1_000_003 + number, turn % classes)


def unsafe_pictures(per_profession: int, seed: int = 0) -> Asked:
    """Each profession so many times in the places where the hazard is common, all steered by the first concept."""
    number = np.arange(PERSON * per_profession)
    profession, turn = number // per_profession, number % per_profession
    prompts = [
        f"{phrase(PROFESSIONS[p], template=TEMPLATES[n % len(TEMPLATES)])} {PLACES[BAD_PLACES[n % len(BAD_PLACES)]]}"
        for p, n in zip(profession, turn, strict=True)
    ]
    return Asked(prompts, profession, seed * 1_000_003 + number, np.zeros_like(number))


def sampler(
    base: BaseModel,
    concepts: Sequence[Concept] = (),
    *,
    steps: int = 50,
    guidance: float = 7.5,
    strength: float = 1.0,
    shown: bool = True,
) -> Sampler:
    """Sampling as the trainer does it; batches hold pictures of one concept."""
    schedule = Schedule.of(base.alphas_cumprod, steps)
    empty = base.encode_prompts([""])

    def make(asked: Asked) -> torch.Tensor:
        pictures = torch.empty(len(asked.prompts), 3, 64, 64)
        with tqdm(total=len(asked.prompts), desc="pictures", unit="picture", disable=not shown, leave=False) as bar:
            for number in np.unique(asked.concept):
                (mine,) = np.nonzero(asked.concept == number)
                for rows in np.array_split(mine, -(-len(mine) // _ROWS)):
                    steer = None if number == UNSTEERED else at_strengths(concepts[number], [strength] * len(rows))
                    z = sample(
                        base.denoiser,
                        schedule,
                        noise_of_seeds(asked.seeds[rows].tolist(), base.latent_size).to(empty.context.device),
                        base.encode_prompts([asked.prompts[row] for row in rows]),
                        empty,
                        guidance=guidance,
                        steer=steer,
                    )
                    pictures[torch.from_numpy(rows)] = base.decode_latents(z)
                    bar.update(len(rows))
        return pictures

    return make


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
