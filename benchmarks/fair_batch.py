"""The cost of Fair Batch: one sampler call with a concept per image, against unsteered images and against a queue.

Runs ComfyUI's own sampler in one process. `ratio_unsteered` is the images per second of a batch of 8 with 8 concepts,
relative to 8 unsteered images; `speedup_vs_queue` is relative to 8 runs of one image, each with its own concept. The
variants alternate, and each ratio is the median over the repetitions. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import statistics
import time
from collections.abc import Callable

import passive  # noqa: F401
import torch
from in_comfyui import h_shape, load_model, random_adapter, sample
from respodiff.respodiff_core.steering.fair_groups import FairGroup, allocate, plan
from respodiff.respodiff_core.steering.steering import Steering, Term

IMAGES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="repetitions, after one warm-up [default: 5]")
    parser.add_argument("--steps", type=int, default=2, help="sampling steps [default: 2]")
    parser.add_argument("--size", type=int, default=256, help="image size in pixels [default: 256]")
    parser.add_argument(
        "--family", default="sd15_full", help="sd15_full (real size) or sd15 (small) [default: sd15_full]"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    _, model = load_model(options.family)
    attach = importlib.import_module("respodiff.nodes.host.attach")

    concepts = random_adapter(IMAGES, h_shape(model, options.size)).concepts.values()
    groups = [FairGroup(concept.name, (Term(concept, 0.5),)) for concept in concepts]
    given = allocate(groups, IMAGES, seed=0)
    fair = attach.attach(model, plan(given))
    singles = [attach.attach(model, Steering(group.terms)) for group in given]

    def queue() -> None:
        for single in singles:
            sample(single, 1, options.size, options.steps)

    variants: dict[str, Callable[[], None]] = {
        "8 unsteered images, one call": lambda: sample(model, IMAGES, options.size, options.steps),
        "8 concepts, one call": lambda: sample(fair, IMAGES, options.size, options.steps),
        "8 concepts, a queue of 8 runs": queue,
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.turns + 1):
        # The order rotates, so that no variant always follows the same one.
        names = list(variants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            variants[name]()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    unsteered, one_call, queued = seconds.values()
    ratios = [a / b for a, b in zip(unsteered, one_call, strict=True)]
    speedups = [a / b for a, b in zip(queued, one_call, strict=True)]
    print(
        f"\n{IMAGES} images of {options.size} px, {options.steps} steps, {torch.get_num_threads()} threads, "
        f"{options.turns} repetitions"
    )
    for name, times in seconds.items():
        print(f"{name:>30} {statistics.median(times):8.2f} s ({min(times):.2f} to {max(times):.2f})")
    print("Ratios of images per second:")
    for name, values in (("one call / unsteered", ratios), ("one call / a queue", speedups)):
        print(f"{name:>30} {statistics.median(values):8.3f}   ({min(values):.3f} to {max(values):.3f})")
    figures = {"ratio_unsteered": statistics.median(ratios), "speedup_vs_queue": statistics.median(speedups)}
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
