"""Score matching on the frozen model's own predictions (paper, section 4): what RAM and SAM are trained for.

    L_RAM = | D(h + RAM) - target |^2             moves RAM only
    L_SAM = | D(h + RAM + SAM) - D(h) |^2         moves SAM only

h is the bottleneck under the neutral prompt, D the decoder. The target is guidance between two frozen predictions:
from "" towards the target prompt (fairness), or from the unsafe prompt towards the neutral one (safety).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ..adapter.transforms import Transform
from .denoiser import Condition, Denoiser
from .diffusion import guided


@dataclass(frozen=True)
class Prompts:
    """The prompts of one concept: rows of `table`, named by their numbers.

    `positive` is None where the target leads towards the neutral prompt itself (safety).
    """

    table: Condition
    empty: int
    neutrals: tuple[int, ...]
    positive: int | None
    negative: int

    @classmethod
    def of(
        cls,
        encode: Callable[[list[str]], Condition],
        *,
        neutrals: Iterable[str],
        positive: str | None,
        negative: str,
    ) -> Prompts:
        """Encode the distinct texts of all roles, each once."""
        texts: dict[str, int] = {}

        def number(text: str) -> int:
            return texts.setdefault(text, len(texts))

        empty, negative_row = number(""), number(negative)
        neutral_rows = tuple(map(number, neutrals))
        positive_row = None if positive is None else number(positive)
        return cls(encode(list(texts)), empty, neutral_rows, positive_row, negative_row)


@dataclass(frozen=True)
class FrozenPredictions:
    """What the frozen model says of latents z (rows, 4, h, w): everything the losses and the next step need.

    `neutral` (rows,) are each row's neutral prompt in the table. `plain`, `target` and `empty` are noise predictions:
    for the neutral prompt, what RAM shall bring about, and for "". `h` and `carry` are what the encoder says under the
    neutral prompt. The reference objective, which keeps nothing, leaves the last three None.
    """

    z: torch.Tensor
    t: torch.Tensor
    neutral: torch.Tensor
    plain: torch.Tensor
    target: torch.Tensor
    empty: Any = None
    h: Any = None
    carry: Any = None


class ScoreMatching:
    """The objective, each frozen prediction computed once.

    The neutral prediction is needed without guidance, so its unconditional half, which cancels in value and
    gradient, is not computed; encoder calls and decoder calls of all prompts go together.
    """

    def __init__(self, denoiser: Denoiser, prompts: Prompts, guidance: float, rollout_guidance: float) -> None:
        self.denoiser = denoiser
        self.prompts = prompts
        self.guidance = guidance
        self.rollout_guidance = rollout_guidance

    @torch.no_grad()
    def predict_frozen(self, z: torch.Tensor, t: torch.Tensor, neutral: torch.Tensor) -> FrozenPredictions:
        """One encoder and one decoder call on all prompts; t and neutral (rows of the table) are (rows,) long."""
        prompts, rows = self.prompts, len(z)
        fixed = dict.fromkeys(p for p in (prompts.empty, prompts.positive, prompts.negative) if p is not None)
        index = torch.cat([neutral, *(torch.full_like(neutral, number) for number in fixed)])
        conditions = prompts.table.rows(index)
        times = 1 + len(fixed)
        h, carry = self.denoiser.encode(z.repeat(times, 1, 1, 1), t.repeat(times), conditions)
        plain, *others = self.denoiser.decode(h, carry, conditions).split(rows)
        noise: dict[int | None, torch.Tensor] = {None: plain, **dict(zip(fixed, others, strict=True))}
        return FrozenPredictions(
            z=z,
            t=t,
            neutral=neutral,
            plain=plain,
            target=guided(noise[prompts.negative], noise[prompts.positive], self.guidance),
            empty=noise[prompts.empty],
            h=h[:rows],
            carry=self.denoiser.take(carry, slice(0, rows)),
        )

    def steered(self, frozen: FrozenPredictions, *modules: Transform) -> torch.Tensor:
        """The neutral prompt's prediction with these modules added to h; differentiable in their tensors."""
        return self.denoiser.decode(_add(frozen.h, modules), frozen.carry, self.prompts.table.rows(frozen.neutral))

    def steered_both(
        self, frozen: FrozenPredictions, ram: Transform, sam: Transform
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The predictions with RAM alone and with both, in one decoder call; RAM learns from the first alone."""
        rows = torch.arange(len(frozen.h), device=frozen.h.device).repeat(2)
        h = torch.cat([_add(frozen.h, [ram]), _add(frozen.h, [ram.detach(), sam])])
        conditions = self.prompts.table.rows(frozen.neutral.repeat(2))
        noise = self.denoiser.decode(h, self.denoiser.take(frozen.carry, rows), conditions)
        alone, both = noise.split(len(frozen.h))
        return alone, both

    def onwards(self, frozen: FrozenPredictions, steered: torch.Tensor) -> torch.Tensor:
        """The guided noise with which the sampler goes on from z, steering on the conditional half alone."""
        return guided(frozen.empty, steered, self.rollout_guidance)

    @torch.no_grad()
    def rollout_noise(
        self, z: torch.Tensor, t: torch.Tensor, neutral: torch.Tensor, modules: Iterable[Transform]
    ) -> torch.Tensor:
        """The guided noise of a plain sampling step, for states nothing is trained on."""
        empty = torch.full_like(neutral, self.prompts.empty)
        return guided(*self._pair(z, t, empty, neutral, modules), self.rollout_guidance)

    def _pair(
        self,
        z: torch.Tensor,
        t: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
        modules: Iterable[Transform] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions under two prompts, the second steered."""
        conditions = self.prompts.table.rows(torch.cat([first, second]))
        with torch.no_grad():
            h, carry = self.denoiser.encode(z.repeat(2, 1, 1, 1), t.repeat(2), conditions)
        h = torch.cat([h[: len(z)], _add(h[len(z) :], modules)])
        one, two = self.denoiser.decode(h, carry, conditions).split(len(z))
        return one, two


class ReferenceScoreMatching(ScoreMatching):
    """The same objective with every pass that the reference code makes, for comparison.

    Each prediction under the neutral prompt is made with guidance at scale 1, so with an unconditional half, and the
    encoder runs again for each.
    """

    @torch.no_grad()
    def predict_frozen(self, z: torch.Tensor, t: torch.Tensor, neutral: torch.Tensor) -> FrozenPredictions:
        """Frozen predictions, two prompts at a time."""
        prompts = self.prompts
        numbers = (prompts.negative, prompts.positive)
        pair = [neutral if number is None else torch.full_like(neutral, number) for number in numbers]
        target = guided(*self._pair(z, t, *pair), self.guidance)
        unmodified = FrozenPredictions(z, t, neutral, plain=target, target=target)
        return FrozenPredictions(z, t, neutral, plain=self.steered(unmodified), target=target)

    def steered(self, frozen: FrozenPredictions, *modules: Transform) -> torch.Tensor:
        """The neutral prompt's prediction with these modules added to h, guided at scale 1."""
        empty = torch.full_like(frozen.neutral, self.prompts.empty)
        return guided(*self._pair(frozen.z, frozen.t, empty, frozen.neutral, modules), 1.0)


def _add(h: torch.Tensor, modules: Iterable[Transform]) -> torch.Tensor:
    """h with what each module says of it added; modules of fp32 in h's own dtype."""
    added = [module.to(dtype=h.dtype)(h) for module in modules]
    return h + sum(added[1:], start=added[0]) if added else h
