"""Training on ToyWorld from different starts: zeros, a contrast concept, and an earlier training with another seed.

    python benchmarks/warm_start.py            # a quarter of an hour on one core

RAM starts at the mean change of h under the contrast concept at the states of a rollout, which is what the concept does
before the bottleneck. Quality after some steps, mean over seeds: images of held-out professions that show the group,
right professions, drawing error. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from functools import partial

import passive  # noqa: F401
import torch
from equal_quality import Quality, measure
from respodiff.respodiff_core.adapter.concept import Concept, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform
from respodiff.respodiff_core.learning.contrast import ContrastFit
from respodiff.respodiff_core.learning.contrast_presets import contrast_values
from respodiff.respodiff_core.learning.contrast_settings import ContrastSettings
from respodiff.respodiff_core.learning.fit import Fit, concept_prompts
from respodiff.respodiff_core.learning.presets import preset
from respodiff.respodiff_core.learning.settings import TrainingSettings
from respodiff.respodiff_core.sites import size_at
from respodiff.respodiff_core.steering.fair_groups import FairGroup, RowSteering, steer_rows
from respodiff.respodiff_core.steering.steering import Term
from respodiff.trainer.base.model import BaseModel, load_base

CONCEPT = "square"
STEPS = (5, 10, 20, 40, 80, 150)
SEEDS = range(3)


def new_fit(base: BaseModel, seed: int) -> Fit:
    concept = preset(f"toyworld/{CONCEPT}")
    prompts = concept_prompts(concept, base.encode_prompts)
    training = TrainingSettings(seed=seed)
    return Fit(base.denoiser, base.alphas_cumprod, concept, prompts, training, latent=base.latent_size)


def contrast_concept(base: BaseModel) -> Concept:
    settings = ContrastSettings(**contrast_values("toyworld/shape"))
    fit = ContrastFit(
        base.denoiser, base.alphas_cumprod, settings, base.encode_prompts, latent=base.latent_size, device="cpu"
    )
    for _ in fit:
        pass
    return next(concept for concept in fit.finished() if concept.name == CONCEPT)


@torch.no_grad()
def change_of_h(base: BaseModel, fit: Fit, concept: Concept) -> torch.Tensor:
    """The mean of h with the contrast concept less h without it (C, H, W), at states of the fit's first rollout."""
    batches = [fit.trajectories.next(step, fit.learner.modules) for step in range(1, 5)]
    changes = []
    for z, t, neutral in ((one.z, one.t, one.neutral) for one in batches):
        condition = fit.objective.prompts.table.rows(neutral)
        steer = steer_rows([FairGroup(CONCEPT, (Term(concept, 1.0),))] * len(z))
        assert steer is not None
        alphas = base.alphas_cumprod[t]
        sigmas = ((1 - alphas) / alphas).sqrt()

        plain, _ = base.denoiser.encode(z, t, condition)
        with base.denoiser.attending(partial(_steered, steer, sigmas, z.shape[-2:])):
            steered, _ = base.denoiser.encode(z, t, condition)
        changes.append((steered - plain).float())
    return torch.cat(changes).mean(dim=0)


def _steered(
    steer: RowSteering, sigmas: torch.Tensor, latent: Sequence[int], site: str, x: torch.Tensor
) -> torch.Tensor | None:
    return steer.layer(site, x, size_at(x.shape[1], *latent), sigmas) if site in steer.sites else None


def starts(base: BaseModel, seed: int) -> Iterator[tuple[str, Fit]]:
    yield "zeros", new_fit(base, seed)
    fit = new_fit(base, seed)
    ram = change_of_h(base, fit, contrast_concept(base))
    fit = new_fit(base, seed)
    fit.learner.start_from(Transform.of({"": ram}), Transform.of({"": torch.zeros_like(ram)}))
    yield "contrast concept", fit
    earlier = new_fit(base, seed + 100)
    for _ in earlier:
        pass
    fit = new_fit(base, seed)
    fit.learner.start_from(*earlier.learner.finished())
    yield "earlier training", fit


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    base = load_base("toyworld")
    found: dict[tuple[str, int], list[Quality]] = {}
    for seed in SEEDS:
        for name, fit in starts(base, seed):
            for steps in (0, *STEPS):
                while fit.number < steps:
                    fit.step()
                concept: ModuleConcept = fit.finished()
                quality = measure(base, concept)
                found.setdefault((name, steps), []).append(quality)
                print(
                    f"{name:17} seed {seed} step {steps:4}: group {quality.steering:6.1%}, profession "
                    f"{quality.profession:6.1%}, drawing error {quality.drawing_error:.4f}",
                    flush=True,
                )
    means = {
        key: [round(statistics.mean(column), 4) for column in zip(*rows, strict=True)] for key, rows in found.items()
    }
    print(f"\n{'start':17} {'step':>5} {'group':>8} {'profession':>11} {'drawing error':>14}")
    for (name, steps), (steering, profession, error) in means.items():
        print(f"{name:17} {steps:5} {steering:8.1%} {profession:11.1%} {error:14.4f}")
    print(json.dumps({f"{name.replace(' ', '_')}_{steps}": row for (name, steps), row in means.items()}))


if __name__ == "__main__":
    main()
