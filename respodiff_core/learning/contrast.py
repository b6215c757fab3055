"""Contrast concepts from any `AttentionDenoiser`, without training: what cross-attention adds for contrasting prompts.

Along trajectories of a neutral prompt the frozen model is asked at each state for the neutral prompt and for each
group. The differences of the outputs, token by token, are fitted by affine maps of low rank (adapter.contrast): the
direction in which they differ most, and by ridge regression how far, from the neutral output itself. Sources: CASteer
(ICLR 2026), EquiSteer (arXiv 2607.01147); the fitted reading is our own.

fit = ContrastFit(denoiser, alphas_cumprod, settings, encode, latent=(64, 64))
for step in fit:
    print(step)
woman, man = fit.finished()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ..adapter.concept import ConceptInfo
from ..adapter.contrast import ContrastConcept
from ..errors import ContrastError
from .contrast_settings import ContrastSettings
from .denoiser import AttentionDenoiser, Conditions
from .diffusion import Schedule, guided
from .sampling import noise_of_seeds

_ROWS = 16
"""Latents in one UNet call, at most, if not even one seed's prompts are more."""


class _Map(NamedTuple):
    """A map to fit: to the sum of the differences y_g with these weights, of this rank."""

    weights: Sequence[float]
    rank: int = 1


class _Sums:
    """Sums over tokens x (n, C) and differences y_g (n, C) of each group, on the device of the first."""

    def __init__(self, channels: int, groups: int, device: torch.device) -> None:
        self.count = 0
        self.x = torch.zeros(channels, device=device)
        self.xx = torch.zeros(channels, channels, device=device)
        self.y = torch.zeros(groups, channels, device=device)
        self.xy = torch.zeros(groups, channels, channels, device=device)

    def add(self, x: torch.Tensor, ys: Sequence[torch.Tensor]) -> None:
        self.count += len(x)
        self.x += x.sum(0)
        self.xx += x.T @ x
        for number, y in enumerate(ys):
            self.y[number] += y.sum(0)
            self.xy[number] += x.T @ y

    def is_zero(self, weights: Sequence[float]) -> bool:
        """Whether the weighted sum of the y_g is nothing but rounding."""
        mixed = torch.tensor(weights, device=self.xy.device)
        return bool(torch.einsum("g,gcd->cd", mixed, self.xy).norm() <= _ROUNDING * self.xx.norm())

    def fitted(self, maps: Mapping[str, _Map], ridge: float) -> dict[str, _Fitted]:
        """The best map of its rank from x to each weighted sum of the y_g, by name."""
        # In fp64, which a GPU of Apple's does not have.
        place = self.x.device if self.x.device.type == "cuda" else "cpu"
        x, xx, y, xy = (tensor.to(place).double() / self.count for tensor in (self.x, self.xx, self.y, self.xy))
        spread = xx - torch.outer(x, x)
        floor = ridge * spread.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        factor = torch.linalg.cholesky(spread + floor * torch.eye(len(x), dtype=x.dtype, device=place))
        fitted = {}
        for name, one in maps.items():
            mixed = torch.tensor(one.weights, dtype=x.dtype, device=place)
            mean = mixed @ y
            joint = torch.einsum("g,gcd->cd", mixed, xy) - torch.outer(x, mean)
            fitted[name] = _fitted(factor, spread, joint, x, mean, min(one.rank, len(x)))
        return fitted


_Fitted = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Directions (R, C), levels (R) and readings (R, C) of a map of rank R."""
_SPARE, _ITERATIONS = 3, 60
_ROUNDING = 1e-6
_RANK_OF_ADDED = 4
"""Of what is added or taken away, which often is a thing at one place: a higher rank leaves the rest alone."""


def _fitted(
    factor: torch.Tensor, spread: torch.Tensor, joint: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, rank: int
) -> _Fitted:
    """The map along the directions in which the values of the ridge regression spread most.

    `factor` is the Cholesky factor of the regularized covariance of x, `spread` its covariance, `joint` that of x and
    y. The directions are found by subspace iteration: the matrix of second moments of the fitted values is never
    formed.
    """

    def slopes(directions: torch.Tensor) -> torch.Tensor:
        return torch.cholesky_solve(joint @ directions, factor)

    def moments(directions: torch.Tensor) -> torch.Tensor:
        back = torch.cholesky_solve(spread @ slopes(directions), factor)
        return joint.T @ back + torch.outer(mean, mean @ directions)

    count = min(rank + _SPARE, len(mean))
    start = torch.eye(len(mean), count, dtype=mean.dtype, device=mean.device)
    start[:, 0] = mean
    basis = torch.linalg.qr(moments(start) + 1e-9 * start).Q
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(moments(basis)).Q
    small = basis.T @ moments(basis)
    directions = basis @ torch.linalg.eigh((small + small.T) / 2).eigenvectors[:, -rank:].flip(1)
    directions = torch.where(mean @ directions < 0, -directions, directions)  # the same file every time
    readings = slopes(directions)
    return directions.T, mean @ directions - x @ readings, readings.T


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
        if not denoiser.attention_sites:
            raise ContrastError("This model has no cross-attention layers, where contrast concepts act.")
        self.settings, self.latent = settings, latent
        self.steps = len(settings.contexts) * settings.schedule_steps
        self._denoiser, self._encode, self._device = denoiser, encode, torch.device(device)
        self._schedule = Schedule.of(alphas_cumprod, settings.schedule_steps).to(device)
        self._sums: dict[tuple[int, str], _Sums] = {}
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
            _, neutral, *groups = output.float().flatten(0, 1).chunk(prompts)
            if (part, site) not in self._sums:
                self._sums[part, site] = _Sums(output.shape[-1], len(groups), output.device)
            self._sums[part, site].add(neutral, [group - neutral for group in groups])

        index = torch.arange(prompts, device=self._device).repeat_interleave(rows)
        timesteps = self._schedule.timesteps[stage].expand(prompts * rows)
        with self._denoiser.attending(record):
            predicted = self._denoiser.predict(z.repeat(prompts, 1, 1, 1), timesteps, conditions.rows(index))
        empty, neutral, *_ = predicted.split(rows)
        return empty, neutral

    def finished(self, **facts: Any) -> list[ContrastConcept]:
        """The concepts of all groups, on the CPU; `facts` are added to their metadata.

        Raises ContrastError if a group's prompts make no difference to the model.
        """
        settings = self.settings
        groups = len(settings.groups)
        if not all(bool(sums.xx.isfinite().all()) for sums in self._sums.values()):
            raise ContrastError("The model's cross-attention gives NaN or infinity: run it in another precision.")
        maps: dict[str, _Map] = {}
        for number in range(groups):
            one = [float(number == other) for other in range(groups)]
            if settings.operation == "move":
                maps[f"{number}.set"] = _Map([share - 1 / groups for share in one])
            else:
                away = [-share for share in one]
                maps[f"{number}.set"] = _Map(away if settings.category == "safety" else one, _RANK_OF_ADDED)
        for name, wanted in zip(settings.groups, maps.values(), strict=True):
            if all(sums.is_zero(wanted.weights) for sums in self._sums.values()):
                raise ContrastError(
                    f"The words of group {name!r} make no difference to this model: use other words, and check that "
                    "the prompts are not longer than the text encoder reads."
                )
        if settings.operation == "move":
            maps["clear"] = _Map([1 / groups] * groups, groups - 1)  # G groups lie in G - 1 dimensions
        fitted = {key: sums.fitted(maps, settings.ridge) for key, sums in self._sums.items()}
        return [
            ContrastConcept.of(
                self._info(name, words, facts), self._tensors(fitted, number), settings.operation, self._edges()
            )
            for number, (name, words) in enumerate(settings.groups.items())
        ]

    def _edges(self) -> tuple[float, ...]:
        """The noise levels at which the parts begin: between the last state of one and the first of the next."""
        settings, sigmas = self.settings, self._schedule.sigmas.cpu()
        starts = [-(-part * settings.schedule_steps // settings.parts) for part in range(1, settings.parts)]
        return tuple(float((sigmas[start - 1] * sigmas[start]).sqrt()) for start in starts)

    def _tensors(self, fitted: Mapping[tuple[int, str], Mapping[str, _Fitted]], number: int) -> dict[str, torch.Tensor]:
        tensors = {}
        keys = {"set": f"{number}.set"} | ({"clear": "clear"} if self.settings.operation == "move" else {})
        for site in self._denoiser.attention_sites:
            for part, key in keys.items():
                each = [fitted[number_of_part, site][key] for number_of_part in range(self.settings.parts)]
                direction, level, reading = (torch.stack(values).float().cpu() for values in zip(*each, strict=True))
                tensors[f"{site}.{part}.direction"] = direction[..., None, None]
                tensors[f"{site}.{part}.level"] = level
                tensors[f"{site}.{part}.reading"] = reading[..., None, None]
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
