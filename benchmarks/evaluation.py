"""Images per second of `respodiff eval` against a plain loop over a diffusers pipeline with the same settings.

    python benchmarks/evaluation.py [--base toyworld] [--steps 50] [--images 16] [--turns 5]

Both generate the same prompts with DDIM, guidance scale 7.5 and one noise per seed, and write PNG files. The plain loop
calls the pipeline once per batch and then saves the images. Scoring is not timed. `--base` may be a diffusers folder;
ToyWorld's UNet is so small that the time spent outside it counts most there. A ratio above 1 means that ours is faster.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import passive  # noqa: F401
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from respodiff.respodiff_core.learning.sampling import noise_of_seeds
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.trainer.base.model import load_base
from respodiff.trainer.commands.report_errors import quieten_libraries
from respodiff.trainer.evaluation.generation import ImageGenerator, Job, batches, generate_missing
from respodiff.trainer.evaluation.image_folder import ImageFolder
from respodiff.trainer.toyworld import TOYWORLD, TOYWORLD_FOLDER
from respodiff.trainer.toyworld.prompts import professions
from respodiff.trainer.worlds.image_spec import ImageSpec
from respodiff.trainer.worlds.protocols import winobias

GUIDANCE = 7.5
NOBODY = FairGroup("", ())


def ours(image_generator: ImageGenerator, specs: Sequence[ImageSpec], batch: int, folder: Path) -> None:
    jobs = [Job("all", one, NOBODY) for one in specs]
    for _ in generate_missing(image_generator, batches(jobs, batch), ImageFolder(folder)):
        pass


def plain(pipeline: StableDiffusionPipeline, specs: Sequence[ImageSpec], batch: int, folder: Path, steps: int) -> None:
    latent = pipeline.unet.config.sample_size
    for start in range(0, len(specs), batch):
        part = specs[start : start + batch]
        noise = noise_of_seeds([one.seed for one in part], (latent, latent)).to(pipeline.device, pipeline.dtype)
        images = pipeline(
            [one.prompt for one in part], latents=noise, num_inference_steps=steps, guidance_scale=GUIDANCE
        ).images
        for one, image in zip(part, images, strict=True):
            image.save(folder / f"{one.id}.png", compress_level=4)


def seconds(work: Callable[[Path], None]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        work(Path(folder))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--base", default=TOYWORLD, help="toyworld, or a diffusers folder of SD 1.x [default: toyworld]"
    )
    parser.add_argument("--steps", type=int, default=50, help="sampling steps [default: 50]")
    parser.add_argument("--images", type=int, default=16, help="images per repetition [default: 16]")
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each side [default: 5]")
    arguments = parser.parse_args()
    quieten_libraries()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    folder = TOYWORLD_FOLDER if arguments.base == TOYWORLD else Path(arguments.base)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, safety_checker=None).to(device)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    image_generator = ImageGenerator(load_base(arguments.base, device=device, dtype=dtype), arguments.steps, GUIDANCE)
    protocol = professions(5) if arguments.base == TOYWORLD else winobias(5)
    specs = protocol[:: max(len(protocol) // arguments.images, 1)][: arguments.images]

    figures: dict[str, float] = {}
    for batch in (1, 8):

        def draw_ours(folder: Path, batch: int = batch) -> None:
            ours(image_generator, specs, batch, folder)

        def draw_plain(folder: Path, batch: int = batch) -> None:
            plain(pipeline, specs, batch, folder, arguments.steps)

        for work in (draw_ours, draw_plain):
            seconds(work)  # warm-up
        ratios, speeds = [], []
        for turn in range(arguments.turns):
            order = (draw_ours, draw_plain) if turn % 2 else (draw_plain, draw_ours)
            took = {work: seconds(work) for work in order}
            ratios.append(took[draw_plain] / took[draw_ours])
            speeds.append(len(specs) / took[draw_ours])
        figures[f"ratio_batch_{batch}"] = round(statistics.median(ratios), 3)
        print(
            f"batch {batch}: {statistics.median(speeds):6.2f} images per second, {statistics.median(ratios):.3f} times "
            f"the plain loop (median of {arguments.turns} repetitions; {min(ratios):.3f} to {max(ratios):.3f})"
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
