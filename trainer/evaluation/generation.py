"""Making the pictures: batches in which every row has its own prompt, seed and steering, so that one pass of the UNet
serves several variants.

A batch is the unit of work: which pictures share one never changes, so that a picture comes out the same to the last
bit whether a run was interrupted or not, and whichever process makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image

from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.learning.diffusion import Schedule
from ...respodiff_core.learning.sampling import noise_of_seeds, sample
from ...respodiff_core.steering.fair_groups import FairGroup, steer_rows
from ..base.model import BaseModel
from ..support.contact_sheet import pixels
from ..worlds.image_spec import ImageSpec
from .image_folder import ImageFolder

_CACHED_PROMPTS = 64  # pictures of one prompt stand together
_DECODED_AT_ONCE = 8 * 64 * 64  # latent pixels; SDXL's autoencoder takes gigabytes a picture


@dataclass(frozen=True)
class Job:
    """One picture to make: in which variant, for what, and what steers it."""

    variant: str
    spec: ImageSpec
    given: FairGroup


class ImageGenerator:
    """Draws with a base model, DDIM without noise, as the trainer's own previews."""

    def __init__(self, base: BaseModel, steps: int = 50, guidance: float = 7.5) -> None:
        self.base = base
        self.guidance = guidance
        self._schedule = Schedule.of(base.alphas_cumprod, steps)
        # Each prompt by itself: what stands beside it must not change it. Not a method: a cache that knew this object
        # would keep the model in memory.
        self._encode = lru_cache(maxsize=_CACHED_PROMPTS)(lambda prompt: base.encode_prompts([prompt]))

    def generate(self, specs: Sequence[ImageSpec], given: Sequence[FairGroup]) -> torch.Tensor:
        """Pictures (rows, 3, height, width) in [0, 1], on the model's device; row i steered by group i."""
        empty = self._encode("")
        device = empty.context.device
        z = sample(
            self.base.denoiser,
            self._schedule,
            noise_of_seeds([one.seed for one in specs], self.base.latent_size).to(device),
            Condition.cat([self._encode(one.prompt) for one in specs]),
            empty,
            guidance=self.guidance,
            steer=steer_rows(given),
        )
        height, width = self.base.latent_size
        return torch.cat(
            [self.base.decode_latents(part) for part in z.split(max(_DECODED_AT_ONCE // (height * width), 1))]
        )


def batches(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """The jobs in their order, `size` at a time."""
    return [jobs[first : first + size] for first in range(0, len(jobs), size)]


def all_generated(jobs: Sequence[Job], folder: ImageFolder) -> bool:
    """Whether the pictures of all these jobs are there."""
    return all(folder.has(job.variant, job.spec.id) for job in jobs)


def generate_missing(
    image_generator: ImageGenerator, batches: Sequence[Sequence[Job]], folder: ImageFolder
) -> Generator[int]:
    """Make the pictures of these batches that are not there yet; yields after each batch how many it has.

    A batch of which any is missing is made as a whole. Pictures are written while the next batch is sampled, and those
    of a batch get their names together.
    """
    with _writer() as write:
        for batch in batches:
            if not all_generated(batch, folder):
                images = image_generator.generate([job.spec for job in batch], [job.given for job in batch])
                write(folder, batch, [Image.fromarray(pixels(image)) for image in images])
            yield len(batch)


@contextmanager
def _writer() -> Iterator[Callable[[ImageFolder, Sequence[Job], Sequence[Image.Image]], None]]:
    """Writes in a thread of its own; an error comes up at the next write, or at the end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        under_way: list[Future[None]] = []

        def write(folder: ImageFolder, batch: Sequence[Job], images: Sequence[Image.Image]) -> None:
            if under_way:
                under_way.pop().result()
            named = [(job.variant, job.spec, image) for job, image in zip(batch, images, strict=True)]
            under_way.append(pool.submit(folder.write, named))

        yield write
        for future in under_way:
            future.result()
