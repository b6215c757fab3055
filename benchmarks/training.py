"""The cost of training: the staggered pool against the paper's loop in one run.

    python benchmarks/training.py            # ten minutes on one core

1. A training sample on ToyWorld: UNet evaluations, counted by hooks, and wall-clock time; the variants alternate.
2. A small UNet with SDXL's architecture: wall-clock time of a sample and peak memory, each in a separate process.

equal_quality.py measures the time until a certain quality. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import passive  # noqa: F401
import torch
from accelerate import Accelerator
from respodiff.respodiff_core.adapter.concept import Concept, ConceptInfo, ModuleConcept
from respodiff.respodiff_core.learning.denoiser import Condition
from respodiff.respodiff_core.learning.learner import Learner, train_step
from respodiff.respodiff_core.learning.objective import Prompts, ReferenceScoreMatching, ScoreMatching
from respodiff.respodiff_core.learning.trajectories import FreshRollouts, Pool, RolloutConfig
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run.setup import encode_concept, new_fit
from respodiff.trainer.run.unet_evaluations import counting

CONCEPT = "square"
SIDES = {
    "pool, batch 1": {"rollout": "pool", "batch": 1, "pool": 8},
    "pool, batch 4": {"rollout": "pool", "batch": 4, "pool": 8},
    "reference": {"rollout": "reference", "batch": 1, "pool": 1},  # the paper's loop
}
POOL, REFERENCE = "pool, batch 4", "reference"


class Side:
    """A training of one concept on ToyWorld with the settings of one variant; `seconds` counts its time."""

    def __init__(self, base: BaseModel, name: str, ram_rate: float, seed: int = 0) -> None:
        concept = {"preset": f"toyworld/{CONCEPT}", "ram_rate": ram_rate, "sam_rate": ram_rate / 10}
        recipe = Recipe.of(
            {
                "base": "toyworld",
                "output": "x.safetensors",
                "concepts": [concept],
                "training": {**SIDES[name], "seed": seed},
            }
        )
        training, (one,) = recipe.training, recipe.concepts
        accelerator = Accelerator(cpu=True)
        self.batch = training.batch
        self.fit = new_fit(base, one, training, encode_concept(base, one, accelerator.device), accelerator)
        self.seconds = 0.0

    def train(self, samples: int) -> None:
        """Train on `samples` more samples."""
        began = time.perf_counter()
        for _ in range(-(-samples // self.batch)):
            self.fit.step()
        self.seconds += time.perf_counter() - began

    @property
    def samples(self) -> int:
        return self.fit.number * self.batch

    def concept(self) -> Concept:
        """The concept in its current state."""
        return ModuleConcept(ConceptInfo(CONCEPT, "fairness"), *self.fit.learner.finished())


def cost_of_a_sample(base: BaseModel, turns: int) -> dict[str, dict[str, float]]:
    """UNet evaluations and seconds per training sample; the variants alternate."""
    sides = {name: Side(base, name, ram_rate=0.04) for name in SIDES}
    for side in sides.values():
        side.train(8)  # the pool's first rollout, and warm-up
    per_turn = {name: 49 if name == REFERENCE else 392 for name in SIDES}  # full passes through the schedule
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            before, seconds = side.samples, side.seconds
            with counting(base.denoiser.unet) as evaluations:
                side.train(per_turn[name])
            done = side.samples - before
            found[name].append((evaluations.total / done, (side.seconds - seconds) / done))
    return {
        name: {"evaluations": statistics.mean(e for e, _ in rows), "seconds": statistics.median(s for _, s in rows)}
        for name, rows in found.items()
    }


class SmallSDXL:
    """The parts of a base model that the objective needs, with SDXL's architecture and 107 million weights; h is
    (320, 8, 8).
    """

    latent = (32, 32)

    def __init__(self) -> None:
        from diffusers import UNet2DConditionModel
        from respodiff.trainer.base.unet_denoiser import UNetDenoiser
        from respodiff.trainer.toyworld.networks import scheduler

        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(320, 320, 320),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(5, 5, 5),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        self.alphas = scheduler().alphas_cumprod
        self.denoiser = UNetDenoiser(unet, self.alphas)
        generator = torch.Generator().manual_seed(0)
        self.table = Condition(
            torch.randn(3, 77, 2048, generator=generator),
            torch.randn(3, 1280, generator=generator),
            torch.tensor([[256.0, 256.0, 0.0, 0.0, 256.0, 256.0]]).expand(3, 6),
        )


def small_sdxl(name: str, samples: int, pipe: Any) -> None:
    """Run in a separate process: send the seconds of a sample and the peak memory, batch size 1."""
    from respodiff.respodiff_core.learning.diffusion import Schedule

    model = SmallSDXL()
    prompts = Prompts(model.table, empty=0, neutrals=(1,), positive=2, negative=0)
    kind = ReferenceScoreMatching if name == "reference" else ScoreMatching
    objective = kind(model.denoiser, prompts, 4.0, 3.0)
    schedule = Schedule.of(model.alphas, 50)
    config = RolloutConfig(schedule, states=49, batch=1, latent=model.latent, seed=0)
    source = FreshRollouts(objective, config) if name == "reference" else Pool(objective, config, 1)
    learner = Learner("constant", (320, 8, 8), ram_rate=1e-2, sam_rate=1e-3)
    train_step(1, source, objective, learner)  # warm-up
    began = time.perf_counter()
    with counting(model.denoiser.unet) as evaluations:
        for step in range(2, samples + 2):
            train_step(step, source, objective, learner)
    pipe.send(
        {
            "evaluations": evaluations.total / samples,
            "seconds": (time.perf_counter() - began) / samples,
            "peak_mb": peak_memory_mb(),
        }
    )


def peak_memory_mb() -> float:
    """Peak memory of this process; getrusage would include its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def in_a_process(name: str, samples: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=small_sdxl, args=(name, samples, theirs))
    process.start()
    theirs.close()
    result: dict[str, float] = ours.recv()
    process.join()
    return result


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    base = load_base("toyworld")
    figures: dict[str, float] = {}

    print("1. A training sample on ToyWorld")
    cost = cost_of_a_sample(base, turns=3)
    for name, one in cost.items():
        print(f"  {name:13} {one['evaluations']:6.2f} UNet evaluations   {1000 * one['seconds']:8.1f} ms")
    figures["evals_per_sample"] = cost[POOL]["evaluations"]
    figures["evals_per_sample_reference"] = cost[REFERENCE]["evaluations"]
    for figure, name in (("speedup_per_sample", POOL), ("speedup_per_sample_batch_1", "pool, batch 1")):
        figures[figure] = cost[REFERENCE]["seconds"] / cost[name]["seconds"]

    print("\n2. A small UNet with SDXL's architecture, batch size 1, fp32")
    small = {name: in_a_process(name, samples) for name, samples in (("pool", 49), ("reference", 16))}
    for name, result in small.items():
        print(
            f"  {name:13} {result['evaluations']:6.2f} UNet evaluations   {result['seconds']:8.2f} s   "
            f"peak {result['peak_mb']:.0f} MB"
        )
    figures["sdxl_speedup_per_sample"] = small["reference"]["seconds"] / small["pool"]["seconds"]
    figures["peak_mb"] = small["pool"]["peak_mb"]
    figures["peak_mb_reference"] = small["reference"]["peak_mb"]
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
