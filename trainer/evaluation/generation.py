"""Image generation in batches in which every row has its own prompt, seed and steering, so that one UNet call serves
several variants.

A batch is the unit of work. Which images share a batch never changes, so an image is bit-identical whether a run was
interrupted or not, and whichever process generates it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

_CACHED_PROMPTS = 64  # images of one prompt are adjacent
_DECODED_AT_ONCE = 8 * 64 * 64  # latent pixels; SDXL's autoencoder needs gigabytes per image


@dataclass(frozen=True)
class Job:
    """One image to generate: its variant, its spec, and the group that steers it.

    Also its prompt if it is not the spec's, and its guidance scale if it is not the generator's.
    """

    variant: str
    spec: ImageSpec
    given: FairGroup
    prompt: str = ""
    guidance: float | None = None

    @property
    def asked(self) -> ImageSpec:
        """The spec with the job's own prompt."""
        return replace(self.spec, prompt=self.prompt) if self.prompt else self.spec


class ImageGenerator:
    """Generates images with a base model by DDIM (eta 0), as the training previews do."""

    def __init__(self, base: BaseModel, steps: int = 50, guidance: float = 7.5) -> None:
        self.base = base
        self.guidance = guidance
        self._schedule = Schedule.of(base.alphas_cumprod, steps)
        # Each prompt is encoded alone, so that other prompts cannot change it. Not a method: the cache would hold a
        # reference to this object and keep the model in memory.
        self._encode = lru_cache(maxsize=_CACHED_PROMPTS)(lambda prompt: base.encode_prompts([prompt]))

    def generate(
        self,
        specs: Sequence[ImageSpec],
        given: Sequence[FairGroup],
        *,
        prompts: Sequence[str] | None = None,
        guidance: Sequence[float] | None = None,
    ) -> torch.Tensor:
        """Images (rows, 3, height, width) in [0, 1], on the model's device; row i is steered by `given[i]`, with
        prompts and guidance scales of their own if they are given.
        """
        scales = list(guidance or [self.guidance] * len(specs))
        empty = self._encode("")
        device = empty.context.device
        condition = Condition.cat([self._encode(one) for one in prompts or [one.prompt for one in specs]])
        z = sample(
            self.base.denoiser,
            self._schedule,
            noise_of_seeds([one.seed for one in specs], self.base.latent_size).to(device),
            condition,
            empty,
            guidance=torch.tensor(scales, device=device),
            steer=steer_rows(given, condition.context, scales),
        )
        height, width = self.base.latent_size
        return torch.cat(
            [self.base.decode_latents(part) for part in z.split(max(_DECODED_AT_ONCE // (height * width), 1))]
        )


def batches(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """The jobs in their order, `size` at a time."""
    return [jobs[first : first + size] for first in range(0, len(jobs), size)]


def all_generated(jobs: Sequence[Job], folder: ImageFolder) -> bool:
    """Whether the images of all these jobs exist."""
    return all(folder.has(job.variant, job.spec.id) for job in jobs)


def generate_missing(
    image_generator: ImageGenerator, batches: Sequence[Sequence[Job]], folder: ImageFolder
) -> Generator[int]:
    """Generate the missing images of these batches; yields the size of each batch after it is done.

    A batch with any missing image is generated as a whole. Images are written while the next batch is sampled; those of
    a batch are renamed into place together.
    """
    with _writer() as write:
        for batch in batches:
            if not all_generated(batch, folder):
                images = image_generator.generate(
                    [job.spec for job in batch],
                    [job.given for job in batch],
                    prompts=[job.asked.prompt for job in batch],
                    guidance=[image_generator.guidance if job.guidance is None else job.guidance for job in batch],
                )
                write(folder, batch, [Image.fromarray(pixels(image)) for image in images])
            yield len(batch)


@contextmanager
def _writer() -> Iterator[Callable[[ImageFolder, Sequence[Job], Sequence[Image.Image]], None]]:
    """Write in a separate thread; an error is raised at the next write, or at the end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        under_way: list[Future[None]] = []

        def write(folder: ImageFolder, batch: Sequence[Job], images: Sequence[Image.Image]) -> None:
            if under_way:
                under_way.pop().result()
            named = [(job.variant, job.asked, image) for job, image in zip(batch, images, strict=True)]
            under_way.append(pool.submit(folder.write, named))

        yield write
        for future in under_way:
            future.result()
