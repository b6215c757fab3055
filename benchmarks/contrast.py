"""The cost of contrast concepts: a UNet step with 1 and with 8 of them against an unpatched one, and making one.

Uses SD1.5's real UNet shape at 512 px with random weights, in ComfyUI's own code and in one process. Steps with no, one
and eight chained concepts alternate, and each ratio is the median over the repetitions. A concept is made on ToyWorld,
and its file sizes are those of real shapes. The last line is JSON.
"""

from __future__ import annotations

import importlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import passive  # noqa: F401
import torch
from in_comfyui import load_model
from patch_overhead import ratios_to_unpatched, step_options
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
    options = step_options(__doc__)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    _, model = load_model(options.family)
    sites = importlib.import_module("respodiff.nodes.host.unet").sites_of(model)
    layers = {site: channels for site, channels in sites.items() if site != MIDDLE}
    figures = step_ratios(model, layers, options.size, options.turns)
    evaluations, seconds = making()
    figures |= {"evaluations": evaluations, "toyworld_s": seconds}
    for family, its_layers, width in (("sd15", layers, 768), ("sdxl", _SDXL, 2048)):
        held = to_bytes(Adapter(family, {"woman": random_concept("woman", its_layers, tokens=width)}))
        figures[f"file_mb_{family}"] = len(held) / 1e6
        print(f"file of one group of two, {family}, fp32: {len(held) / 1e6:.2f} MB")
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


def random_gate(width: int) -> dict[str, torch.Tensor]:
    """The gate of two groups, for text encodings of this width."""
    return {"gate.center": torch.randn(width), "gate.reading": torch.randn(2, width), "gate.level": torch.ones(2)}


def random_concept(name: str, layers: Mapping[str, int], seed: int = 0, tokens: int = 0) -> ContrastConcept:
    """A concept as Instant Concept makes it of two groups, with small random vectors; with a gate for text encodings of
    width `tokens`, if it is given.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for site, channels in layers.items():
        for part in ("clear", "set"):
            direction, reading = 0.05 * torch.randn(2, 1, 1, channels, 1, 1, generator=generator)
            of = f"{site}.{part}"
            tensors |= {f"{of}.direction": direction, f"{of}.reading": reading, f"{of}.level": torch.ones(1, 1)}
    if tokens:
        tensors |= random_gate(tokens)
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
    return ratios_to_unpatched(variants, {1: "1 contrast concept", 8: "8 chained concepts"}, size, turns)


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
