"""Steering plans: the concepts that act in a UNet, with their strengths, prompts, masks and sampling windows.

Plans are immutable and can be added. All concepts that do not depend on h are summed once into a single tensor per
device, dtype and size, so that a sampling step costs one addition for any number of concepts. If the images of a batch
differ, this tensor has one row per image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import is_
from typing import Any, Literal

import torch

from ..adapter.concept import Concept, ModuleConcept, check_numbers
from ..adapter.contrast import ContrastConcept
from ..adapter.gate import Gate
from ..adapter.transforms import Transform
from ..errors import BatchSizeError, StrengthError
from ..names import MIDDLE
from .layer_maps import LayerMaps, WeightedMap
from .mask import WHOLE, Area, Mask

Prompt = Literal["positive", "negative", "both"]
"""The prompt to steer: positive (as in the paper), negative, or both."""

Curve = Literal["constant", "fade in", "fade out"]
"""The strength within a window: constant, rising linearly from 0, or falling linearly to 0."""

_CACHED_SIZES = 8


@dataclass(frozen=True)
class Window:
    """The part of the sampling schedule (0 to 1) in which a concept acts, like ControlNet's start and end percent."""

    start: float = 0.0
    end: float = 1.0
    curve: Curve = "constant"

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise StrengthError(
                f"The window from {self.start:g} to {self.end:g} is empty or out of range: start_percent must be "
                "between 0 and end_percent, and end_percent at most 1."
            )

    @property
    def is_whole(self) -> bool:
        """Whether the concept acts equally in every step."""
        return self.start <= 0.0 and self.end >= 1.0 and self.curve == "constant"


@dataclass(frozen=True)
class Term:
    """One concept in a plan, at a strength: h + strength * (ram * RAM + sam * SAM) (arXiv 2509.15257, section 4), or
    for a contrast concept the change of cross-attention outputs that adapter.contrast describes.

    `images` are factors for the images of the batch (None: 1 for all), `mask` is the region of the image. With
    `gated`, images whose prompt already names a group of the axis are left alone. Raises StrengthError for NaN and
    infinity, for a negative strength of a safety concept, for factors of RAM and SAM where the concept has none, and
    for `gated` where it has no gate.
    """

    concept: Concept
    strength: float
    ram: float = 1.0
    sam: float = 1.0
    window: Window = Window()
    prompt: Prompt = "positive"
    mask: Mask | None = None
    images: tuple[float, ...] | None = None
    gated: bool = False

    def __post_init__(self) -> None:
        factors = self.images or (1.0,)
        check_numbers(self.concept, self.ram_strength, self.sam_strength, *factors)
        if not isinstance(self.concept, ModuleConcept) and (self.ram, self.sam) != (1.0, 1.0):
            raise StrengthError(
                f"{self.concept.name!r} is a contrast concept and has no RAM and SAM: leave their strengths at 1."
            )
        if self.gated and self.concept_gate is None:
            raise StrengthError(
                f"{self.concept.name!r} has no gate, which only contrast concepts of fairness have: switch the gate "
                "off, and use Prompt Guard for prompts that name a group."
            )
        lowest = min(s * f for s in (self.ram_strength, self.sam_strength) for f in factors)
        if self.concept.info.category == "safety" and lowest < 0:
            raise StrengthError(
                f"{self.concept.name!r} is a safety concept: it already points away from the unsafe content, and a "
                "negative strength would steer towards it. Use a strength of 0 or more."
            )

    @classmethod
    def of(cls, concept: Concept, strength: float, ram: float = 1.0, sam: float = 1.0, **rest: Any) -> Term:
        """A concept at `strength` times its recommended strength; `ram` and `sam` are factors for the two modules."""
        return cls(concept, strength * concept.info.strength, ram, sam, **rest)

    def at_guidance(self, scale: float) -> Term:
        """The term in sampling at this guidance scale, at which its strength means what it does at the usual one."""
        factor = self.concept.info.at_guidance(scale)
        return self if factor == 1.0 or self.prompt == "negative" else replace(self, strength=self.strength * factor)

    @property
    def concept_gate(self) -> Gate | None:
        """The gate of the concept, whether the term is gated or not."""
        return self.concept.gate if isinstance(self.concept, ContrastConcept) else None

    @property
    def gate(self) -> Gate | None:
        """The gate that decides which images the term acts on; None if it acts on all."""
        return self.concept_gate if self.gated else None

    @property
    def ram_strength(self) -> float:
        return self.strength * self.ram

    @property
    def sam_strength(self) -> float:
        return self.strength * self.sam

    @property
    def is_noop(self) -> bool:
        return not (self.ram_strength or self.sam_strength) or (self.images is not None and not any(self.images))

    @property
    def batch_size(self) -> int | None:
        """The batch size that the term requires; None if any."""
        if self.images is not None:
            return len(self.images)
        return self.mask.count if self.mask is not None and self.mask.count > 1 else None


@dataclass(frozen=True, eq=False)
class _Addend:
    """One module of a term. Its output is multiplied by the strength, the factor of the image, and the mask."""

    module: Transform
    strength: float
    images: tuple[float, ...] | None
    mask: Mask | None

    @property
    def rows(self) -> tuple[int, ...] | None:
        """The indices of the images it acts on; None if it acts on all images equally."""
        if self.images is None:
            return None if self.mask is None or self.mask.count == 1 else tuple(range(self.mask.count))
        return tuple(row for row, factor in enumerate(self.images) if factor)

    def scale(self, height: int, width: int, area: Area) -> torch.Tensor:
        """The factor on the module's output: (rows or 1, 1, height or 1, width or 1), fp32."""
        scale = torch.tensor(self.strength)
        if self.images is not None:
            scale = scale * torch.tensor([factor for factor in self.images if factor])[:, None, None, None]
        if self.mask is not None:
            mask = self.mask.on(height, width, area)
            scale = scale * (mask if self.images is None or self.mask.count == 1 else mask[list(self.rows or ())])
        return scale


class Group:
    """The terms of a plan with the same window, prompt and gate, fused into one addition.

    `batch_size` is the batch size that the terms require; None if any.
    """

    def __init__(
        self, window: Window, prompt: Prompt, gate: Gate | None, terms: Iterable[Term], batch_size: int | None
    ):
        self.window = window
        self.prompt = prompt
        self.gate = gate
        self.batch_size = batch_size
        terms = tuple(terms)
        addends = [
            _Addend(module, strength, term.images, term.mask)
            for term in terms
            if isinstance(term.concept, ModuleConcept)
            for strength, module in ((term.ram_strength, term.concept.ram), (term.sam_strength, term.concept.sam))
            if strength
        ]
        maps: dict[str, list[WeightedMap]] = {}
        for term in terms:
            for site, weighted in _weighted_maps(term):
                maps.setdefault(site, []).append(weighted)
        self._layers = {site: LayerMaps(held) for site, held in maps.items()}
        fixed = tuple(addend for addend in addends if not addend.module.depends_on_h)
        dependent = tuple(addend for addend in addends if addend.module.depends_on_h)
        # Closures over plain values instead of bound methods, so that the caches do not keep the group alive.
        self._sum_of_fixed = lru_cache(maxsize=_CACHED_SIZES)(lambda *key: _sum_fields(fixed, batch_size, *key))
        self._modules_on = lru_cache(maxsize=_CACHED_SIZES)(
            lambda device, dtype: tuple(addend.module.to(device, dtype) for addend in dependent)
        )
        self._scales_on = lru_cache(maxsize=_CACHED_SIZES)(
            lambda device, dtype, *size: tuple(
                (_index(addend.rows, device), addend.scale(*size).to(device, dtype)) for addend in dependent
            )
        )
        self._has_mask = any(addend.mask is not None for addend in addends)
        self._has_fixed = bool(fixed)
        self._has_dependent = bool(dependent)

    @property
    def sites(self) -> frozenset[str]:
        """Where the group acts."""
        return frozenset(self._layers) | ({MIDDLE} if self._has_fixed or self._has_dependent else frozenset())

    def layer_delta(
        self,
        site: str,
        x: torch.Tensor,
        size: tuple[int, int],
        sigmas: torch.Tensor | None = None,
        area: Area = WHOLE,
    ) -> torch.Tensor:
        """The tensor to add to what the cross-attention layer `site` adds, x (images, tokens, C); see LayerMaps.delta.

        Raises BatchSizeError like `delta`.
        """
        self._check_batch(len(x))
        return self._layers[site].delta(x, size, sigmas, area)

    def delta(self, h: torch.Tensor, area: Area = WHOLE, sigmas: torch.Tensor | None = None) -> torch.Tensor:
        """The tensor to add to h (images, C, height, width), in the dtype and on the device of h; broadcasts against h.

        `area` is the part of the image that h covers, `sigmas` (images,) the noise level. The sum of the modules that
        do not depend on h is computed in fp32 and cached per (device, dtype, height, width, area). Raises
        BatchSizeError if h has a different number of images than the plan requires.
        """
        self._check_batch(len(h))
        if MIDDLE not in self._layers:
            return self._module_delta(h, area)
        tokens = self._layers[MIDDLE].delta(h.flatten(2).mT, (h.shape[-2], h.shape[-1]), sigmas, area)
        moved = tokens.mT.reshape(*tokens.shape[:-2], h.shape[1], *(h.shape[-2:] if tokens.shape[-2] > 1 else (1, 1)))
        return moved + self._module_delta(h, area) if self._has_fixed or self._has_dependent else moved

    def _check_batch(self, images: int) -> None:
        if self.batch_size not in (None, images):
            raise BatchSizeError(
                f"The steering was made for a batch of {self.batch_size} images, but {images} are sampled. Set the "
                "batch size of the node that made it (Fair Batch, Strength Sweep, or Steer with a batch of masks) to "
                "that of the sampled latent, or connect that latent to it."
            )

    def _module_delta(self, h: torch.Tensor, area: Area) -> torch.Tensor:
        size = (h.shape[-2], h.shape[-1], area if self._has_mask else WHOLE)
        fixed = self._sum_of_fixed(h.device, h.dtype, *size) if self._has_fixed else None
        if not self._has_dependent:
            assert fixed is not None, "a group has at least one module"
            return fixed
        total = h.new_zeros(()) if fixed is None else fixed
        modules, scales = self._modules_on(h.device, h.dtype), self._scales_on(h.device, h.dtype, *size)
        for module, (rows, scale) in zip(modules, scales, strict=True):
            if rows is None:
                total = total + module(h) * scale
            else:
                total = total.expand_as(h).index_add(0, rows, module(h.index_select(0, rows)) * scale)
        return total


def _weighted_maps(term: Term) -> Iterator[tuple[str, WeightedMap]]:
    """The maps of a contrast concept by site, at the term's strength for each image."""
    if not isinstance(term.concept, ContrastConcept):
        return
    strengths = [term.strength * factor for factor in term.images or (1.0,)]
    factors = {"clear": tuple(min(abs(s), 1.0) for s in strengths), "set": tuple(strengths)}
    for site, maps in term.concept.layers.items():
        for part, one in maps.items():
            yield site, WeightedMap(one, factors[part], term.concept.sigmas, term.mask)


def per_image(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """One value for each image, on the device of the rows (images, ...) and broadcast against them.

    Fewer values than images repeat, as the rows of a prompt do.
    """
    values = values.to(rows.device)
    if len(values) not in (1, len(rows)):
        values = values.repeat(-(-len(rows) // len(values)))[: len(rows)]
    return values.view(-1, *(1,) * (rows.dim() - 1))


def _index(rows: tuple[int, ...] | None, device: torch.device) -> torch.Tensor | None:
    return None if rows is None else torch.tensor(rows, device=device)


def _sum_fields(
    fixed: tuple[_Addend, ...],
    batch_size: int | None,
    device: torch.device,
    dtype: torch.dtype,
    height: int,
    width: int,
    area: Area,
) -> torch.Tensor:
    """The sum of the modules: (C, height, width), or (images, C, height, width) if the images differ."""
    total = torch.zeros(())
    for addend in fixed:
        if addend.rows is None:
            total = total + addend.module.field(height, width) * addend.scale(height, width, area)
    if any(addend.rows is not None for addend in fixed):
        total = total.expand(batch_size or 1, fixed[0].module.channels, height, width).clone()
        for addend in fixed:
            if addend.rows is not None:
                value = addend.module.field(height, width) * addend.scale(height, width, area)
                total[list(addend.rows)] += value
    return total.to(device=device, dtype=dtype)


@dataclass(frozen=True)
class Steering:
    """An immutable plan. `a + b` combines two plans; the order does not matter.

    Raises BatchSizeError if its terms require different batch sizes.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        sizes = sorted({term.batch_size for term in self.terms if term.batch_size is not None})
        if len(sizes) > 1:
            raise BatchSizeError(
                f"The model is steered for different batch sizes at the same time: {' and '.join(map(str, sizes))} "
                "images. Set Fair Batch, Strength Sweep and masks to the batch size of the sampled latent."
            )

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def at_guidance(self, scale: float | None) -> Steering:
        """The plan in sampling at this guidance scale; itself if nothing changes or the scale is not known."""
        terms = self.terms if scale is None else tuple(term.at_guidance(scale) for term in self.terms)
        return self if all(map(is_, terms, self.terms)) else Steering(terms)

    @property
    def batch_size(self) -> int | None:
        """The batch size that the plan requires; None if any."""
        return next((term.batch_size for term in self.terms if term.batch_size is not None), None)

    def groups(self) -> tuple[Group, ...]:
        """The plan as groups, one per window, prompt and gate. Terms without effect are left out."""
        by_key: dict[tuple[Window, Prompt, Gate | None], list[Term]] = {}
        for term in self.terms:
            if not term.is_noop:
                by_key.setdefault((term.window, term.prompt, term.gate), []).append(term)
        size = self.batch_size
        return tuple(Group(*key, terms, size) for key, terms in by_key.items())
