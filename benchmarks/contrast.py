"""The cost of contrast concepts: a UNet step with 1 and with 8 of them against an unpatched one, and making one.

Uses SD1.5's real UNet shape at 512 px with random weights, in ComfyUI's own code and in one process. Steps with no, one
and eight chained concepts alternate, and each ratio is the median over the repetitions. A concept is made on ToyWorld,
and its file sizes are those of real shapes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import statistics
import time
from collections.abc import Mapping
from typing import Any

import passive  # noqa: F401
import torch
from in_comfyui import load_model
from patch_overhead import one_step
from respodiff.respodiff_core.adapter.adapter import Adapter, to_bytes
from respodiff.respodiff_core.adapter.concept import ConceptInfo
from respodiff.respodiff_core.adapter.contrast import ContrastConcept
from respodiff.respodiff_core.learning.contrast import ContrastFit
from respodiff.respodiff_core.learning.contrast_presets import contrast_values
from respodiff.respodiff_core.learning.contrast_settings import ContrastSettings
from respodiff.respodiff_core.names import MIDDLE
from respodiff.respodiff_core.steering.steering import Steering, Term
from respodiff.trainer.base.model import load_base

# The cross-attention layers of SDXL and their channels; those of SD1.5 are read from the model.
_SDXL = {
    **{f"input.{block}.{depth}": 640 for block in (4, 5) for depth in range(2)},
    **{f"input.{block}.{depth}": 1280 for block in (7, 8) for depth in range(10)},
    **{f"middle.0.{depth}": 1280 for depth in range(10)},
    **{f"output.{block}.{depth}": 1280 for block in range(3) for depth in range(10)},
    **{f"output.{block}.{depth}": 640 for block in range(3, 6) for depth in range(2)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="steps of each variant, after one warm-up [default: 7]")
    parser.add_argument("--size", type=int, default=512, help="image size in pixels [default: 512]")
    parser.add_argument(
        "--family", default="sd15_full", help="sd15_full (real size) or sd15 (small) [default: sd15_full]"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    _, model = load_model(options.family)
    sites = importlib.import_module("respodiff.nodes.host.unet").sites_of(model)
    layers = {site: channels for site, channels in sites.items() if site != MIDDLE}
    figures = step_ratios(model, layers, options.size, options.turns)
    evaluations, seconds = making()
    figures |= {"evaluations": evaluations, "toyworld_s": seconds}
    for family, its_layers in (("sd15", layers), ("sdxl", _SDXL)):
        held = to_bytes(Adapter(family, {"woman": random_concept("woman", its_layers)}))
        figures[f"file_mb_{family}"] = len(held) / 1e6
        print(f"file of one group of two, {family}, fp32: {len(held) / 1e6:.2f} MB")
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


def random_concept(name: str, layers: Mapping[str, int], seed: int = 0) -> ContrastConcept:
    """A concept as Instant Concept makes it of two groups, with small random vectors."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for site, channels in layers.items():
        for part in ("clear", "set"):
            direction, reading = 0.05 * torch.randn(2, 1, 1, channels, 1, 1, generator=generator)
            of = f"{site}.{part}"
            tensors |= {f"{of}.direction": direction, f"{of}.reading": reading, f"{of}.level": torch.ones(1, 1)}
    return ContrastConcept.of(ConceptInfo(name), tensors, "move")


def step_ratios(model: Any, layers: Mapping[str, int], size: int, turns: int) -> dict[str, float]:
    """Median ratios of patched to unpatched time of one UNet step (two rows: positive and negative prompt)."""
    attach = importlib.import_module("respodiff.nodes.host.attach")
    variants = {0: model}
    for count in (1, 8):
        steered = model
        for number in range(count):
            concept = random_concept(f"concept {number}", layers, number)
            steered = attach.attach(steered, Steering((Term(concept, 0.5),)))
        variants[count] = steered
    steps = {count: one_step(variant, size) for count, variant in variants.items()}
    times: dict[int, list[float]] = {count: [] for count in variants}
    for turn in range(turns + 1):
        # The order rotates, so that no variant always follows the same one.
        for count in sorted(steps, key=lambda c: (c + turn) % 3):
            seconds = steps[count]()
            if turn:
                times[count].append(seconds)
    print(f"\nOne UNet step at {size} px, batch of 2 rows, {torch.get_num_threads()} threads, {turns} repetitions")
    print(f"{'':>24} {'median s':>10} {'ratio':>8} {'min':>8} {'max':>8}")
    found = {}
    for count, label in ((0, "unpatched"), (1, "1 contrast concept"), (8, "8 chained concepts")):
        row = [t / plain for t, plain in zip(times[count], times[0], strict=True)]
        found[f"ratio_{count}"] = statistics.median(row)
        print(
            f"{label:>24} {statistics.median(times[count]):>10.3f} {found[f'ratio_{count}']:>8.4f} {min(row):>8.4f} "
            f"{max(row):>8.4f}"
        )
    return {"ratio_1": found["ratio_1"], "ratio_8": found["ratio_8"], "step_s": statistics.median(times[0])}


def making() -> tuple[int, float]:
    """UNet evaluations of the preset for gender, and the seconds that a concept takes on ToyWorld."""
    evaluations = ContrastSettings(**contrast_values("gender")).evaluations
    base = load_base("toyworld")
    settings = ContrastSettings(**contrast_values("toyworld/shape"))
    began = time.perf_counter()
    fit = ContrastFit(base.denoiser, base.alphas_cumprod, settings, base.encode_prompts, latent=base.latent_size)
    for _ in fit:
        pass
    fit.finished()
    seconds = time.perf_counter() - began
    print(
        f"\nMaking a concept: {evaluations:,} UNet evaluations for gender; on ToyWorld {settings.evaluations:,} in "
        f"{seconds:.1f} s"
    )
    return evaluations, seconds


if __name__ == "__main__":
    main()
