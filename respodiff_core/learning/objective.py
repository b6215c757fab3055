"""Score matching with the predictions of the frozen model (arXiv 2509.15257, section 4): the losses of RAM and SAM.

    L_RAM = | D(h + RAM) - target |^2             updates only RAM
    L_SAM = | D(h + RAM + SAM) - D(h) |^2         updates only SAM

h is the bottleneck under the neutral prompt, D the decoder. The target is classifier-free guidance of two frozen
predictions: from "" towards the target prompt (fairness), or from the unsafe prompt towards the neutral one (safety).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ..adapter.transforms import Transform
from .denoiser import Conditions, Denoiser
from .diffusion import guided


@dataclass(frozen=True)
class Prompts:
    """The prompts of one concept, as row numbers of `table`.

    `positive` is None if the target points towards the neutral prompt itself (safety).
    """

    table: Conditions
    empty: int
    neutrals: tuple[int, ...]
    positive: int | None
    negative: int

    @classmethod
    def of(
        cls,
        encode: Callable[[list[str]], Conditions],
        *,
        neutrals: Iterable[str],
        positive: str | None,
        negative: str,
    ) -> Prompts:
        """Encode each distinct text once."""
        texts: dict[str, int] = {}

        def number(text: str) -> int:
            return texts.setdefault(text, len(texts))

        empty, negative_row = number(""), number(negative)
        neutral_rows = tuple(map(number, neutrals))
        positive_row = None if positive is None else number(positive)
        return cls(encode(list(texts)), empty, neutral_rows, positive_row, negative_row)


@dataclass(frozen=True)
class FrozenPredictions:
    """Predictions of the frozen model for latents z (rows, 4, h, w), for the losses and for the next sampling step.

    `neutral` (rows,) are the table rows of the neutral prompts. `plain`, `target` and `empty` are noise predictions
    (rows, 4, h, w): for the neutral prompt, the target of RAM, and for "". `h` and `carry` are the encoder's output
    under the neutral prompt. With the reference objective, which does not reuse them, the last three are None.
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
    """The objective. Each frozen prediction is computed only once.

    The neutral prediction is needed without guidance, so its unconditional half, which cancels in value and
    gradient, is not computed. All prompts share one encoder call and one decoder call.
    """

    def __init__(self, denoiser: Denoiser, prompts: Prompts, guidance: float, rollout_guidance: float) -> None:
        self.denoiser = denoiser
        self.prompts = prompts
        self.guidance = guidance
        self.rollout_guidance = rollout_guidance

    @torch.no_grad()
    def predict_frozen(self, z: torch.Tensor, t: torch.Tensor, neutral: torch.Tensor) -> FrozenPredictions:
        """The frozen predictions for z (rows, 4, h, w); t and neutral (rows of the table) are (rows,) long."""
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
        """The noise (rows, 4, h, w) under the neutral prompt with these modules added to h; differentiable."""
        return self.denoiser.decode(_add(frozen.h, modules), frozen.carry, self.prompts.table.rows(frozen.neutral))

    def steered_both(
        self, frozen: FrozenPredictions, ram: Transform, sam: Transform
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise with RAM alone and with both, in one decoder call; RAM has gradients only from the first."""
        rows = torch.arange(len(frozen.h), device=frozen.h.device).repeat(2)
        h = torch.cat([_add(frozen.h, [ram]), _add(frozen.h, [ram.detach(), sam])])
        conditions = self.prompts.table.rows(frozen.neutral.repeat(2))
        noise = self.denoiser.decode(h, self.denoiser.take(frozen.carry, rows), conditions)
        alone, both = noise.split(len(frozen.h))
        return alone, both

    def sampler_noise(self, frozen: FrozenPredictions, steered: torch.Tensor) -> torch.Tensor:
        """The guided noise (rows, 4, h, w) for the sampling step from z; only the conditional half is steered."""
        return guided(frozen.empty, steered, self.rollout_guidance)

    @torch.no_grad()
    def rollout_noise(
        self, z: torch.Tensor, t: torch.Tensor, neutral: torch.Tensor, modules: Iterable[Transform]
    ) -> torch.Tensor:
        """The guided noise (rows, 4, h, w) for a sampling step from states that are not trained on."""
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
        """The noise under two prompts; only the second is steered."""
        conditions = self.prompts.table.rows(torch.cat([first, second]))
        with torch.no_grad():
            h, carry = self.denoiser.encode(z.repeat(2, 1, 1, 1), t.repeat(2), conditions)
        h = torch.cat([h[: len(z)], _add(h[len(z) :], modules)])
        one, two = self.denoiser.decode(h, carry, conditions).split(len(z))
        return one, two


class ReferenceScoreMatching(ScoreMatching):
    """The same objective with all UNet calls of the reference code, for comparison.

    Each prediction under the neutral prompt uses guidance at scale 1, including the unconditional half, and a separate
    encoder call.
    """

    @torch.no_grad()
    def predict_frozen(self, z: torch.Tensor, t: torch.Tensor, neutral: torch.Tensor) -> FrozenPredictions:
        """The frozen predictions, with one UNet call per two prompts."""
        prompts = self.prompts
        numbers = (prompts.negative, prompts.positive)
        pair = [neutral if number is None else torch.full_like(neutral, number) for number in numbers]
        target = guided(*self._pair(z, t, *pair), self.guidance)
        unmodified = FrozenPredictions(z, t, neutral, plain=target, target=target)
        return FrozenPredictions(z, t, neutral, plain=self.steered(unmodified), target=target)

    def steered(self, frozen: FrozenPredictions, *modules: Transform) -> torch.Tensor:
        """The noise under the neutral prompt with these modules added to h, with guidance at scale 1."""
        empty = torch.full_like(frozen.neutral, self.prompts.empty)
        return guided(*self._pair(frozen.z, frozen.t, empty, frozen.neutral, modules), 1.0)


def _add(h: torch.Tensor, modules: Iterable[Transform]) -> torch.Tensor:
    """h plus the output of each module; fp32 modules are cast to the dtype of h."""
    added = [module.to(dtype=h.dtype)(h) for module in modules]
    return h + sum(added[1:], start=added[0]) if added else h
