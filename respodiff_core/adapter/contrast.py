"""Contrast concepts: affine maps of low rank at the UNet's cross-attention layers, computed from contrasting prompts.

They need no training (learning.contrast). CASteer (ICLR 2026) and EquiSteer (arXiv 2607.01147) exchange the share of a
cross-attention output along the direction in which contrasting prompts differ. Here a vector of its own reads that
share, fitted by least squares, so that it is found wherever the subject stands and the rest of the image is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..errors import AdapterFileError
from ..names import MIDDLE, OPERATIONS, SITES, Operation, Site
from ..plain_text import listed, quoted
from ..sites import run_order
from .concept import Concept, ConceptInfo
from .gate import TENSORS as GATE
from .gate import Gate, check_gate
from .transforms import resampled

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_PARTS = 16
"""Maximum number of parts of the schedule that have vectors of their own."""
LARGEST_GRID = 64
"""Maximum height and width of vectors that differ from place to place."""
HIGHEST_RANK = 16
MOST_SITES = 512
CONTRAST = "contrast"
"""The kind of contrast concepts."""
MAPS: Mapping[Operation, tuple[str, ...]] = {"add": ("set",), "move": ("clear", "set")}
"""The maps of a layer, by operation."""
_REQUIRED, _ALL = {"direction", "level"}, {"direction", "level", "reading"}
_LAYER = re.compile(r"(?:input|middle|output)\.\d{1,3}\.\d{1,3}|middle")
_TENSOR = re.compile(rf"({_LAYER.pattern})\.(clear|set)\.(direction|level|reading)|{'|'.join(map(re.escape, GATE))}")

Shapes = Mapping[str, tuple[int, ...]]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LowRankMap:
    """An affine map of tokens o (C) of rank R: the sum of direction_r * (level_r + <reading_r, o>) over r; without
    `reading` it does not depend on o.

    `direction` and `reading` are (P, R, C, H, W) for P parts of the schedule, on a coarse grid of places or the same
    for all places (H = W = 1); `level` is (P, R). A reading on a grid is summed over the whole image, one without reads
    each token by itself.
    """

    direction: torch.Tensor
    level: torch.Tensor
    reading: torch.Tensor | None = None

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        named = {"direction": self.direction, "level": self.level}
        return named if self.reading is None else named | {"reading": self.reading}

    def directions(self, height: int, width: int) -> torch.Tensor:
        """The directions at each token of a layer of this size, (P, tokens, R, C); one token if all are the same."""
        return _tokens(self.direction, height, width)

    def readings(self, height: int, width: int) -> torch.Tensor | None:
        """The readings at each token of a layer of this size, like `directions`; None without one.

        Resampled so that the sum over places means the same at every size.
        """
        if self.reading is None:
            return None
        places = self.reading.shape[3] * self.reading.shape[4]
        field = _tokens(self.reading, height, width)
        return field if places == 1 else field * (places / (height * width))


def _tokens(field: torch.Tensor, height: int, width: int) -> torch.Tensor:
    parts, ranks, channels, *grid = field.shape
    if grid != [1, 1]:
        field = resampled(field.flatten(0, 1), height, width).unflatten(0, (parts, ranks))
    return field.reshape(parts, ranks, channels, -1).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ContrastConcept(Concept):
    """A concept that changes what cross-attention adds.

    `layers` holds the maps of each site, by the names of MAPS. At strength s, `add` adds s * set(o) to a layer's output
    o, and `move` adds min(|s|, 1) * clear(o) + s * set(o): `clear` takes the axis's share from what the prompt implies
    to the middle between the groups, `set` from there to the group's own level. `sigmas` are the P - 1 noise levels at
    which the next part of the schedule begins, falling. `gate` tells the prompts that already name a group of the axis.

    `of` makes one of tensors that fit together.
    """

    layers: Mapping[str, Mapping[str, LowRankMap]]
    operation: Operation = "move"
    sigmas: tuple[float, ...] = ()
    gate: Gate | None = None

    @classmethod
    def of(
        cls, info: ConceptInfo, tensors: Mapping[str, torch.Tensor], operation: Operation, sigmas: Sequence[float] = ()
    ) -> ContrastConcept:
        """The concept with these tensors, by their names in the file after `<concept>.`. Raises AdapterFileError."""
        check_shapes({name: tuple(t.shape) for name, t in tensors.items()}, operation, sigmas, f"Concept {info.name!r}")
        layers = {
            site: MappingProxyType({part: LowRankMap(**named) for part, named in maps.items()})
            for site, maps in _by_site(tensors).items()
        }
        gate = Gate(*(tensors[name] for name in GATE)) if GATE[0] in tensors else None
        return cls(info, MappingProxyType(layers), operation, tuple(sigmas), gate)

    @property
    def sites(self) -> Mapping[str, int]:
        return {site: maps["set"].direction.shape[2] for site, maps in self.layers.items()}

    @property
    def site(self) -> Site:
        return MIDDLE if MIDDLE in self.layers else "cross-attention"

    @property
    def kind(self) -> str:
        return CONTRAST

    def tensors(self) -> dict[str, torch.Tensor]:
        named = {
            f"{site}.{part}.{parameter}": tensor
            for site, maps in self.layers.items()
            for part, one in maps.items()
            for parameter, tensor in one.tensors.items()
        }
        return named if self.gate is None else named | self.gate.tensors

    def scaled(self, strength: float) -> Self:
        # Not its tensors: `clear` does not grow with the strength.
        return replace(self, info=replace(self.info, strength=self.info.strength * strength))


def is_layer_tensor(name: str) -> bool:
    """Whether a tensor name, after `<concept>.`, is one of a contrast concept."""
    return _TENSOR.fullmatch(name) is not None


def _by_site(named: Mapping[str, _Value]) -> dict[str, dict[str, dict[str, _Value]]]:
    """What is named like tensors of maps, by site in the order in which they run, map and parameter."""
    sites: dict[str, dict[str, dict[str, _Value]]] = {}
    for name, value in named.items():
        if name in GATE:
            continue
        site, part, parameter = name.rsplit(".", 2)
        sites.setdefault(site, {}).setdefault(part, {})[parameter] = value
    return {site: sites[site] for site in sorted(sites, key=run_order)}


def sites_of(shapes: Shapes) -> dict[str, int]:
    """The channels of each site, from the shapes of a contrast concept's tensors."""
    return {site: maps["set"]["direction"][2] for site, maps in _by_site(shapes).items()}


def check_shapes(shapes: Shapes, operation: Operation, sigmas: Sequence[float], owner: str) -> None:
    """Raise AdapterFileError unless tensors of these names and shapes make a contrast concept of that operation."""
    for name in shapes:
        if not is_layer_tensor(name):
            raise AdapterFileError(f"{owner} has the tensor {quoted(name)}, which no contrast concept has.")
    sites = _by_site(shapes)
    if not sites or len(sites) > MOST_SITES:
        raise AdapterFileError(f"{owner} acts at {len(sites)} layers; 1 to {MOST_SITES} are possible.")
    for site, maps in sites.items():
        if maps.keys() != set(MAPS[operation]):
            raise AdapterFileError(
                f"{owner} has {listed(sorted(maps))} at {site}, but {operation!r} needs {listed(MAPS[operation])}."
            )
        widths = {shape[2] for named in maps.values() for shape in named.values() if len(shape) == 5}
        if len(widths) > 1:
            raise AdapterFileError(f"{owner} has tensors of {listed(map(str, sorted(widths)))} channels at {site}.")
        for part, named in maps.items():
            _check_map(named, len(sigmas) + 1, owner, f"{site}.{part}")
    if gate := {name: shape for name, shape in shapes.items() if name in GATE}:
        check_gate(gate, owner)


def _check_map(named: Shapes, parts: int, owner: str, place: str) -> None:
    """Raise AdapterFileError unless parameters of these shapes make a map."""
    if not _REQUIRED <= named.keys() <= _ALL:
        raise AdapterFileError(f"{owner} has only {listed(sorted(named))} at {place}.")
    ranks = named["direction"][1] if len(named["direction"]) == 5 else 0
    for parameter, shape in named.items():
        if not _fits(parameter, shape, parts, ranks):
            raise AdapterFileError(
                f"{owner} has a {parameter} of shape {shape} at {place}; expected "
                f"{'(P, R)' if parameter == 'level' else '(P, R, C, H, W)'} for P = {parts} parts of the schedule, the "
                f"rank R of the direction (at most {HIGHEST_RANK}), and at most {LARGEST_GRID} x {LARGEST_GRID} places."
            )


def _fits(parameter: str, shape: tuple[int, ...], parts: int, ranks: int) -> bool:
    if not 1 <= ranks <= HIGHEST_RANK:
        return False
    if parameter == "level":
        return shape == (parts, ranks)
    return len(shape) == 5 and shape[:2] == (parts, ranks) and min(shape) >= 1 and max(shape[3:]) <= LARGEST_GRID


def check_placement(entry: Mapping[str, Any], name: str) -> tuple[Site, Operation, tuple[float, ...]]:
    """Where and how a concept acts, by its entry in the metadata. Raises AdapterFileError for unknown values: a concept
    must not be steered with in a way that its file does not mean."""
    site, operation, sigmas = entry.get("site", MIDDLE), entry.get("operation", "add"), entry.get("sigmas", [])
    for what, value, known in (("site", site, SITES), ("operation", operation, OPERATIONS)):
        if value not in known:
            raise AdapterFileError(
                f"Concept {name!r} has the {what} {quoted(value)}, which this version does not know "
                f"({', '.join(known)}): update ComfyUI-RespoDiff."
            )
    if not isinstance(sigmas, list) or len(sigmas) >= MOST_PARTS or not _are_falling(sigmas):
        raise AdapterFileError(
            f"Concept {name!r} has the sigmas {quoted(sigmas)}; expected at most {MOST_PARTS - 1} falling noise levels."
        )
    return site, operation, tuple(map(float, sigmas))


def _are_falling(sigmas: list[Any]) -> bool:
    numbers = all(type(sigma) in (int, float) and isfinite(sigma) and sigma > 0 for sigma in sigmas)
    return numbers and all(later < earlier for earlier, later in pairwise(sigmas))
