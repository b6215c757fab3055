"""A concept: its description, where it acts and what it does there; RAM and SAM, the modules of RespoDiff."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from math import isfinite, log
from typing import TYPE_CHECKING, Any

import torch

from ..errors import AdapterFileError, StrengthError
from ..names import CATEGORIES, MIDDLE, MOST_SCALES, Category, Kind, Operation, Site, check_axis, check_name
from ..plain_text import quoted
from .transforms import Transform, is_finite

if TYPE_CHECKING:
    from typing_extensions import Self

ROLES = ("ram", "sam")
_STRONGEST = 100.0
_LARGEST_LATENT = 1 << 14
_EXPECTED: dict[str, tuple[type, ...]] = {
    "target": (str,),
    "neutral": (str,),
    "negative": (str,),
    "category": (str,),
    "latent_height": (int, type(None)),
    "latent_width": (int, type(None)),
    "strength": (int, float),
    "training": (dict,),
    "axis": (str,),
    "synonyms": (list,),
    "scales": (dict,),
    "guidance": (list,),
}


@dataclass(frozen=True)
class ConceptInfo:
    """The metadata of a concept.

    `target`, `neutral` and `negative` are the training prompts (several neutral prompts are separated by " | "),
    `latent_height` and `latent_width` the latent size in training, `strength` the recommended strength, and `training`
    the training settings (name and hash of the base model, steps, learning rates, seed, tool version). `axis` is the
    axis of the group ("gender"), and `synonyms` are other words for it; both are used by the prompt guard. `scales`
    are factors on the strength, by axis, used when the concept is crossed with a concept of that axis. `guidance` are
    pairs of a guidance scale and the factor on the strength that it needs, by rising scale (see `at_guidance`); empty
    if the strength is the same at every scale.

    Raises AdapterFileError for an invalid name or an unknown category.
    """

    name: str
    category: Category = "other"
    target: str = ""
    neutral: str = ""
    negative: str = ""
    latent_height: int | None = None
    latent_width: int | None = None
    strength: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)
    axis: str = ""
    synonyms: tuple[str, ...] = ()
    scales: Mapping[str, float] = field(default_factory=dict)
    guidance: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.category not in CATEGORIES:
            raise AdapterFileError(
                f"Concept {self.name!r} has the unknown category {quoted(self.category)}; it must be one of "
                f"{', '.join(CATEGORIES)}."
            )

    @classmethod
    def from_metadata(cls, entry: object) -> ConceptInfo:
        """Read one entry of `respodiff.concepts`, ignoring unknown keys. Raises AdapterFileError for invalid values."""
        if not isinstance(entry, dict):
            raise AdapterFileError(f"respodiff.concepts must be a list of objects, but contains {quoted(entry)}.")
        name = check_name(entry.get("name"))
        known = {}
        for key, types in _EXPECTED.items():
            if key not in entry:
                continue
            if not isinstance(entry[key], types) or isinstance(entry[key], bool):
                raise AdapterFileError(
                    f"Concept {name!r} has the {key} {quoted(entry[key])}, which has the wrong type."
                )
            known[key] = entry[key]
        if not abs(known.get("strength", 1.0)) <= _STRONGEST:
            raise AdapterFileError(
                f"Concept {name!r} has the recommended strength {quoted(entry['strength'])}, which is not between "
                f"{-_STRONGEST:g} and {_STRONGEST:g}."
            )
        for axis in (known.get("axis", ""), *known.get("scales", {})):
            check_axis(axis)
        if not all(isinstance(word, str) for word in known.get("synonyms", ())):
            raise AdapterFileError(f"Concept {name!r} has synonyms that are not text: {quoted(entry['synonyms'])}.")
        if not all(_is_factor(factor) for factor in known.get("scales", {}).values()):
            raise AdapterFileError(
                f"Concept {name!r} has scales that are not numbers from 0 to {_STRONGEST:g}: {quoted(entry['scales'])}."
            )
        if not _is_over_guidance(known.get("guidance", [])):
            raise AdapterFileError(
                f"Concept {name!r} has the guidance {quoted(entry['guidance'])}; expected at most {MOST_SCALES} pairs "
                f"of a rising guidance scale and a factor from 0 to {_STRONGEST:g}."
            )
        for key in ("latent_height", "latent_width"):
            size = known.get(key)
            if size is not None and not 1 <= size <= _LARGEST_LATENT:
                raise AdapterFileError(
                    f"Concept {name!r} has the {key} {quoted(entry[key])}, which is not a valid latent size "
                    f"(1 to {_LARGEST_LATENT})."
                )
        if not is_plain(known.get("training", {})):
            raise AdapterFileError(f"Concept {name!r} has training metadata nested too deeply (more than 5 levels).")
        known["synonyms"] = tuple(known.get("synonyms", ()))
        known["guidance"] = tuple((float(scale), float(factor)) for scale, factor in known.get("guidance", ()))
        return cls(name=name, **known)

    def at_guidance(self, scale: float) -> float:
        """The factor on the strength at this guidance scale (CFG): between two scales of `guidance` by the line through
        them in logarithms, beyond them as at the nearest.
        """
        if not self.guidance:
            return 1.0
        scales, factors = zip(*self.guidance, strict=True)
        if scale <= scales[0]:
            return factors[0]
        for (low, one), (high, other) in pairwise(self.guidance):
            if scale <= high:
                share = (log(scale) - log(low)) / (log(high) - log(low))
                return one ** (1 - share) * other**share
        return factors[-1]

    def to_metadata(self, kind: str) -> dict[str, Any]:
        """The entry of `respodiff.concepts`; `kind` is that of the tensors."""
        entry = {f.name: getattr(self, f.name) for f in fields(self)}
        mappings = {"training": dict(self.training), "scales": dict(self.scales)}
        return {"name": entry.pop("name"), "kind": kind, **entry, **mappings}


def _is_factor(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _STRONGEST


def _is_over_guidance(pairs: list[Any]) -> bool:
    """Whether these are pairs of a rising guidance scale and a factor."""
    if len(pairs) > MOST_SCALES or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return False
    numbers = all(_is_factor(number) for pair in pairs for number in pair)
    return numbers and all(pair[0] > 0 for pair in pairs) and all(a[0] < b[0] for a, b in pairwise(pairs))


def is_plain(value: object, depth: int = 5) -> bool:
    """Whether dictionaries and lists are nested at most `depth` levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not inner or (depth > 0 and all(is_plain(one, depth - 1) for one in inner))


@dataclass(frozen=True)
class Concept(ABC):
    """A concept: its description, where in the UNet it acts, and what it does there (see the subclasses)."""

    info: ConceptInfo

    @property
    def name(self) -> str:
        return self.info.name

    @property
    @abstractmethod
    def sites(self) -> Mapping[str, int]:
        """The number of channels of each site where the concept acts (respodiff_core.sites)."""

    @property
    @abstractmethod
    def site(self) -> Site:
        """The kind of its sites, as the file names it."""

    @property
    @abstractmethod
    def operation(self) -> Operation:
        """What it does there, as the file names it."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of its tensors, as the file names it."""

    @abstractmethod
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All tensors, by their names in the file after `<concept>.`."""

    @abstractmethod
    def scaled(self, strength: float) -> Self:
        """The concept of which strength 1 acts as `strength` times that of this one."""

    def check_finite(self) -> Self:
        """The concept itself. Raises AdapterFileError if a tensor contains NaN or infinity."""
        for name, tensor in self.tensors().items():
            if not is_finite(tensor):
                role = name.partition(".")[0]
                what = role.upper() if role in ROLES else quoted(name)
                raise AdapterFileError(
                    f"{what} of concept {self.name!r} contains NaN or infinite values: the file is damaged or the "
                    "training diverged. Download or train it again."
                )
        return self


@dataclass(frozen=True)
class ModuleConcept(Concept):
    """A concept of RespoDiff: two modules whose outputs are added to h (arXiv 2509.15257, section 4).

    `ram` aligns the image with the target, `sam` preserves the meaning of the neutral prompt. Raises AdapterFileError
    if their numbers of channels differ.
    """

    ram: Transform
    sam: Transform

    def __post_init__(self) -> None:
        if self.ram.channels != self.sam.channels:
            raise AdapterFileError(
                f"Concept {self.name!r} has a RAM of {self.ram.channels} channels and a SAM of {self.sam.channels}."
            )

    @property
    def sites(self) -> Mapping[str, int]:
        return {MIDDLE: self.ram.channels}

    @property
    def site(self) -> Site:
        return MIDDLE

    @property
    def operation(self) -> Operation:
        return "add"

    @property
    def kind(self) -> str:
        """The kind of the modules, or both kinds as `ram+sam` if they differ."""
        return joint_kind(self.ram.kind, self.sam.kind)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            f"{role}.{parameter}".rstrip("."): tensor
            for role, module in (("ram", self.ram), ("sam", self.sam))
            for parameter, tensor in module.tensors.items()
        }

    def scaled(self, strength: float) -> Self:
        return replace(self, ram=self.ram.scaled(strength), sam=self.sam.scaled(strength))


def joint_kind(ram: Kind, sam: Kind) -> str:
    """The kind of a concept: one word, or `ram+sam` if the kinds of RAM and SAM differ."""
    return ram if ram == sam else f"{ram}+{sam}"


def check_numbers(concept: Concept, *strengths: float) -> None:
    """Raise StrengthError if one of the strengths is NaN or infinite."""
    if not all(map(isfinite, strengths)):
        raise StrengthError(
            f"The strength of {concept.name!r} is NaN or infinite. Use a finite number, usually between 0 and 2."
        )
