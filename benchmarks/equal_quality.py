"""Wall-clock time of training to equal quality on ToyWorld: the staggered pool against the paper's loop.

    python benchmarks/equal_quality.py            # half an hour on one core

The quality is reached when 95 % of the images of held-out professions show the requested group, the share of right
professions is at most two percentage points lower, and the drawing error at most 0.02 higher than without adapter. The
pool has 8 trajectories and batch size 4, the paper's loop batch size 1. Each uses the learning rate of one grid with
the lowest mean time over seeds, all of which must reach the quality. Evaluations are not timed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from typing import NamedTuple

import passive  # noqa: F401
from respodiff.respodiff_core.adapter.concept import Concept
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.respodiff_core.steering.steering import Term
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.evaluation.figures import SHARE
from respodiff.trainer.evaluation.generation import ImageGenerator
from respodiff.trainer.evaluation.in_memory import figures_of, generate
from respodiff.trainer.toyworld.image_scorer import DRAWING_ERROR, RIGHT, ToyWorldScorer
from respodiff.trainer.toyworld.prompts import professions
from respodiff.trainer.toyworld.toyworld import SHAPE
from training import CONCEPT, POOL, REFERENCE, Side

RATES = (0.32, 0.16, 0.08, 0.04)  # learning rates of RAM; SAM's is a tenth
SEEDS = range(3)
GOOD_STEERING, PROFESSION_LOSS, ADDED_ERROR = 0.95, 0.02, 0.02
SECONDS_AT_MOST = 120.0

_IMAGES, _STEPS = 5, 25  # of an evaluation: images per profession, DDIM steps
_FIRST = {POOL: 8, REFERENCE: 4}  # samples before the first evaluation; the next after a fifth more


class Quality(NamedTuple):
    """Figures over images of all professions: shares of the group and of right professions, and the drawing error."""

    steering: float
    profession: float
    drawing_error: float


def measure(base: BaseModel, concept: Concept | None = None) -> Quality:
    """Generate and score images of all professions, with or without the concept."""
    specs = professions(_IMAGES)
    given = [FairGroup(CONCEPT, (Term(concept, 1.0),) if concept else ())] * len(specs)
    images = generate(ImageGenerator(base, _STEPS), specs, given)
    axes = (SHAPE,)
    overall = figures_of(images, specs, given, [ToyWorldScorer(axes)], axes).overall
    names = (SHARE.of("shape", group=CONCEPT), RIGHT.of(), DRAWING_ERROR.of())
    return Quality(*(overall[name].value for name in names))


def time_to_quality(
    base: BaseModel, name: str, rate: float, seed: int, unsteered: Quality, seconds_at_most: float
) -> float | None:
    """Seconds of training until the quality is reached; None if the drawing error or the time gets too large."""
    side = Side(base, name, rate, seed)
    wanted = _FIRST[name]
    while True:
        side.train(wanted - side.samples)
        wanted = max(side.samples + side.batch, math.ceil(1.2 * side.samples))
        found = measure(base, side.concept())
        added_error = found.drawing_error - unsteered.drawing_error
        print(
            f"  {name} rate {rate:<5g} seed {seed} {side.samples:5} samples {side.seconds:6.1f} s   shows {CONCEPT} "
            f"{found.steering:6.1%}   right profession {found.profession:6.1%}   drawing error {added_error:+.4f}",
            flush=True,
        )
        if added_error > ADDED_ERROR or side.seconds > seconds_at_most:
            return None
        if found.steering >= GOOD_STEERING and found.profession >= unsteered.profession - PROFESSION_LOSS:
            return side.seconds


def best_time(base: BaseModel, name: str, unsteered: Quality) -> tuple[float, float]:
    """Mean seconds over seeds at the best learning rate, and that rate; infinite if some seed fails at every rate."""
    best = (math.inf, math.nan)
    for rate in RATES:
        seconds: list[float] = []
        for seed in SEEDS:
            # Stop as soon as the mean cannot become the best.
            left = min(SECONDS_AT_MOST, len(SEEDS) * best[0] - sum(seconds))
            one = time_to_quality(base, name, rate, seed, unsteered, left)
            if one is None:
                break
            seconds.append(one)
        else:
            best = min(best, (statistics.mean(seconds), rate))
            print(f"  {name} rate {rate:g}: quality reached after {', '.join(f'{one:.1f}' for one in seconds)} s")
    return best


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    base = load_base("toyworld")
    unsteered = measure(base)
    print(f"Without adapter: right profession {unsteered.profession:.1%}, drawing error {unsteered.drawing_error:.4f}")
    best = {name: best_time(base, name, unsteered) for name in (POOL, REFERENCE)}
    for name, (seconds, rate) in best.items():
        print(f"{name:13} {seconds:6.1f} s (mean over {len(SEEDS)} seeds) at rate {rate:g}")
    (pool, _), (reference, _) = best.values()
    figures = {
        "seconds_to_quality": round(pool, 2),
        "seconds_to_quality_reference": round(reference, 2),
        "speedup_to_quality": round(reference / pool, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
