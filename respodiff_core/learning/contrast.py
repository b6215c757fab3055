"""Contrast concepts from any `AttentionDenoiser`, without training: what cross-attention adds for contrasting prompts.

Along trajectories of a neutral prompt the frozen model is asked at each state for the neutral prompt and for each
group. The differences of the outputs are fitted by affine maps of low rank (adapter.contrast), token by token
(token_maps) or on a grid of places (place_maps). Sources: CASteer (ICLR 2026), EquiSteer (arXiv 2607.01147).

fit = ContrastFit(denoiser, alphas_cumprod, settings, encode, latent=(64, 64))
for step in fit:
    print(step)
woman, man = fit.finished()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from ..adapter.concept import ConceptInfo
from ..adapter.contrast import ContrastConcept
from ..errors import ContrastError
from ..names import MIDDLE
from ..sites import size_at
from .contrast_settings import ContrastSettings
from .denoiser import AttentionDenoiser, Conditions
from .diffusion import Schedule, guided
from .gate_fit import gate_of
from .place_maps import PlaceSums
from .sampling import noise_of_seeds
from .token_maps import FittedMap, TokenSums, WantedMap

_ROWS = 16
"""Latents in one UNet call, at most, if not even one seed's prompts are more."""
_RANK_OF_ADDED = 4
"""Of what is added or taken away, which often is a thing at one place: a higher rank leaves the rest alone."""


class ContrastFit:
    """Computes the contrast concepts of one axis. Iterating computes: each item is the number of a step that is done,
    of `steps`; a UNet call has up to `rows` latents. `encode` turns prompts into conditions, one row each.

    Raises ContrastError if the denoiser has no cross-attention layers.
    """

    def __init__(
        self,
        denoiser: AttentionDenoiser,
        alphas_cumprod: torch.Tensor,
        settings: ContrastSettings,
        encode: Callable[[list[str]], Conditions],
        *,
        latent: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        self._split: Any = denoiser if settings.site == MIDDLE else None
        if self._split is not None and not hasattr(denoiser, "decode"):
            raise ContrastError("The middle block of this model cannot be reached: use the cross-attention layers.")
        if not denoiser.attention_sites:
            raise ContrastError("This model has no cross-attention layers, where contrast concepts act.")
        self.settings, self.latent = settings, latent
        self.steps = len(settings.contexts) * settings.schedule_steps
        self._denoiser, self._encode, self._device = denoiser, encode, torch.device(device)
        self._schedule = Schedule.of(alphas_cumprod, settings.schedule_steps).to(device)
        self._sums: dict[tuple[int, str], TokenSums | PlaceSums] = {}
        self._tokens: list[torch.Tensor] = []
        prompts = 2 + len(settings.groups)
        self._at_once = min(max(_ROWS // prompts, 1), settings.seeds)
        self.rows = self._at_once * prompts

    def __iter__(self) -> Iterator[int]:
        number = 0
        for context in self.settings.contexts:
            for _ in self._trajectory(context):
                number += 1
                yield number

    @torch.inference_mode()
    def _trajectory(self, context: str) -> Iterator[None]:
        settings = self.settings
        texts = ["", *settings.texts(context)]
        conditions = self._encode(texts)
        self._tokens.append(conditions.tokens[1:].float().cpu())
        seeds = range(settings.seed, settings.seed + settings.seeds)
        z = noise_of_seeds(seeds, self.latent).to(self._device)
        for stage in range(settings.schedule_steps):
            part = stage * settings.parts // settings.schedule_steps
            predictions = [self._ask(some, stage, part, conditions) for some in z.split(self._at_once)]
            empty, neutral = (torch.cat(rows) for rows in zip(*predictions, strict=True))
            stages = torch.full((len(z),), stage, device=self._device)
            z = self._schedule.advance(z, guided(empty, neutral, settings.guidance), stages)
            yield

    def _ask(self, z: torch.Tensor, stage: int, part: int, conditions: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise predicted for the empty and the neutral prompt; what the layers add is counted in."""
        rows, prompts = len(z), len(conditions)

        def record(site: str, output: torch.Tensor) -> None:
            _, neutral, *groups = output.float().chunk(prompts)
            if (part, site) not in self._sums:
                self._sums[part, site] = self._sums_at(output, len(groups))
            self._sums[part, site].add(neutral, groups)

        index = torch.arange(prompts, device=self._device).repeat_interleave(rows)
        timesteps = self._schedule.timesteps[stage].expand(prompts * rows)
        z, conditions = z.repeat(prompts, 1, 1, 1), conditions.rows(index)
        if self._split is not None:
            h, carry = self._split.encode(z, timesteps, conditions)
            record(MIDDLE, h.flatten(2).mT)
            predicted = self._split.decode(h, carry, conditions)
        else:
            with self._denoiser.attending(record):
                predicted = self._denoiser.predict(z, timesteps, conditions)
        empty, neutral, *_ = predicted.split(rows)
        return empty, neutral

    def _sums_at(self, output: torch.Tensor, groups: int) -> TokenSums | PlaceSums:
        if self.settings.places == 1:
            return TokenSums(output.shape[-1], groups, output.device)
        size = size_at(output.shape[1], *self.latent)
        return PlaceSums(output.shape[-1], groups, size, self.settings.places, output.device)

    def finished(self, **facts: Any) -> list[ContrastConcept]:
        """The concepts of all groups, on the CPU; `facts` are added to their metadata.

        Raises ContrastError if a group's prompts make no difference to the model.
        """
        settings = self.settings
        groups = len(settings.groups)
        if not all(sums.is_finite for sums in self._sums.values()):
            raise ContrastError("The model's cross-attention gives NaN or infinity: run it in another precision.")
        maps: dict[str, WantedMap] = {}
        for number in range(groups):
            one = [float(number == other) for other in range(groups)]
            if settings.operation == "move":
                maps[f"{number}.set"] = WantedMap([share - 1 / groups for share in one])
            else:
                away = [-share for share in one]
                maps[f"{number}.set"] = WantedMap(away if settings.category == "safety" else one, _RANK_OF_ADDED)
        for name, wanted in zip(settings.groups, maps.values(), strict=True):
            if all(sums.is_zero(wanted.weights) for sums in self._sums.values()):
                raise ContrastError(
                    f"The words of group {name!r} make no difference to this model: use other words, and check that "
                    "the prompts are not longer than the text encoder reads."
                )
        if settings.operation == "move":
            maps["clear"] = WantedMap([1 / groups] * groups, groups - 1)  # G groups lie in G - 1 dimensions
        fitted = {key: sums.fitted(maps, settings.ridge) for key, sums in self._sums.items()}
        # Safety has no gate: where a prompt names the unsafe, steering is needed most.
        found = gate_of(self._tokens) if settings.category == "fairness" else None
        gate = {} if found is None else found.tensors
        return [
            ContrastConcept.of(
                self._info(name, words, facts), self._tensors(fitted, number) | gate, settings.operation, self._edges()
            )
            for number, (name, words) in enumerate(settings.groups.items())
        ]

    def _edges(self) -> tuple[float, ...]:
        """The noise levels at which the parts begin: between the last state of one and the first of the next."""
        settings, sigmas = self.settings, self._schedule.sigmas.cpu()
        starts = [-(-part * settings.schedule_steps // settings.parts) for part in range(1, settings.parts)]
        return tuple(float((sigmas[start - 1] * sigmas[start]).sqrt()) for start in starts)

    def _tensors(
        self, fitted: Mapping[tuple[int, str], Mapping[str, FittedMap]], number: int
    ) -> dict[str, torch.Tensor]:
        tensors = {}
        keys = {"set": f"{number}.set"} | ({"clear": "clear"} if self.settings.operation == "move" else {})
        for site in [MIDDLE] if self.settings.site == MIDDLE else self._denoiser.attention_sites:
            for part, key in keys.items():
                each = [fitted[number_of_part, site][key] for number_of_part in range(self.settings.parts)]
                for parameter, values in zip(FittedMap._fields, zip(*each, strict=True), strict=True):
                    if values[0] is not None:
                        tensors[f"{site}.{part}.{parameter}"] = torch.stack(values).float().cpu()
        return tensors

    def _info(self, name: str, words: str, facts: Mapping[str, Any]) -> ConceptInfo:
        settings = self.settings
        safety = settings.category == "safety"
        return ConceptInfo(
            name,
            settings.category,
            target="" if safety else words,
            neutral=settings.neutral,
            negative=words if safety else "",
            latent_height=self.latent[0],
            latent_width=self.latent[1],
            strength=settings.strength,
            axis=settings.axis,
            guidance=tuple(sorted(settings.strength_at_guidance.items())),
            training={
                "contexts": list(settings.contexts),
                "steps": settings.schedule_steps,
                "seeds": settings.seeds,
                "guidance": settings.guidance,
                "ridge": settings.ridge,
                "seed": settings.seed,
                **facts,
            },
        )
