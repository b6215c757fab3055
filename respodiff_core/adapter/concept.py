"""A concept: what it is about, and the RAM and SAM that steer towards it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from ..errors import AdapterFileError, StrengthError
from ..names import CATEGORIES, Category, Kind, check_axis, check_name
from ..plain_text import quoted
from .transforms import Transform, is_finite

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
}


@dataclass(frozen=True)
class ConceptInfo:
    """What an adapter's metadata says of one concept.

    `target`, `neutral` and `negative` are the prompts it was trained with (several neutral ones stand beside each
    other, parted by " | "), `latent_height` and `latent_width` the latent size it was trained at, `strength` the
    recommended strength, `training` how it was trained (base model's name and hash, steps, rates, seed, tool version).
    `axis` names what groups of one kind have in common ("gender"), `synonyms` are other words for this one; both are
    for the prompt guard. `scales` multiply the strength where the concept is crossed with one of another axis.
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

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.category not in CATEGORIES:
            raise AdapterFileError(
                f"Concept {self.name!r} has the category {quoted(self.category)}; known are {', '.join(CATEGORIES)}."
            )

    @classmethod
    def from_metadata(cls, entry: object) -> ConceptInfo:
        """Read one entry of `respodiff.concepts`; keys of later versions are passed over."""
        if not isinstance(entry, dict):
            raise AdapterFileError(f"respodiff.concepts must list objects, not {quoted(entry)}.")
        name = check_name(entry.get("name"))
        known = {}
        for key, types in _EXPECTED.items():
            if key not in entry:
                continue
            if not isinstance(entry[key], types) or isinstance(entry[key], bool):
                raise AdapterFileError(
                    f"Concept {name!r} has the {key} {quoted(entry[key])}, which is of a wrong type."
                )
            known[key] = entry[key]
        if not abs(known.get("strength", 1.0)) <= _STRONGEST:
            raise AdapterFileError(
                f"Concept {name!r} has the recommended strength {quoted(entry['strength'])}, which is out of range."
            )
        for axis in (known.get("axis", ""), *known.get("scales", {})):
            check_axis(axis)
        if not all(isinstance(word, str) for word in known.get("synonyms", ())):
            raise AdapterFileError(f"Concept {name!r} has synonyms that are not text: {quoted(entry['synonyms'])}.")
        if not all(_is_factor(factor) for factor in known.get("scales", {}).values()):
            raise AdapterFileError(
                f"Concept {name!r} has scales that are not numbers from 0 to {_STRONGEST:g}: {quoted(entry['scales'])}."
            )
        for key in ("latent_height", "latent_width"):
            size = known.get(key)
            if size is not None and not 1 <= size <= _LARGEST_LATENT:
                raise AdapterFileError(
                    f"Concept {name!r} has the {key} {quoted(entry[key])}, which is no size of latents."
                )
        if not is_plain(known.get("training", {})):
            raise AdapterFileError(f"Concept {name!r} says too deeply nested things of its training.")
        known["synonyms"] = tuple(known.get("synonyms", ()))
        return cls(name=name, **known)

    def to_metadata(self, kind: str) -> dict[str, Any]:
        """The entry of `respodiff.concepts`; `kind` is told by the tensors."""
        entry = {f.name: getattr(self, f.name) for f in fields(self)}
        mappings = {"training": dict(self.training), "scales": dict(self.scales)}
        return {"name": entry.pop("name"), "kind": kind, **entry, **mappings}


def _is_factor(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _STRONGEST


def is_plain(value: object, depth: int = 5) -> bool:
    """Whether tables and lists lie in each other at most so deep: what can be shown and written again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not inner or (depth > 0 and all(is_plain(one, depth - 1) for one in inner))


@dataclass(frozen=True)
class Concept:
    """A concept that can be added to h: `ram` aligns with the target, `sam` keeps the prompt's meaning."""

    info: ConceptInfo
    ram: Transform
    sam: Transform

    def __post_init__(self) -> None:
        if self.ram.channels != self.sam.channels:
            raise AdapterFileError(
                f"Concept {self.name!r} has a RAM of {self.ram.channels} channels and a SAM of {self.sam.channels}."
            )

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def channels(self) -> int:
        """C, the width of the h-space this concept acts on."""
        return self.ram.channels

    @property
    def kind(self) -> str:
        """The module kind; `ram+sam` kinds where they differ."""
        return joint_kind(self.ram.kind, self.sam.kind)

    def check_finite(self) -> Concept:
        """Self, unless a tensor holds NaN or infinity (AdapterFileError)."""
        for role, module in (("RAM", self.ram), ("SAM", self.sam)):
            if not all(is_finite(tensor) for tensor in module.tensors.values()):
                raise AdapterFileError(
                    f"The {role} of concept {self.name!r} holds NaN or infinite values: the file is damaged or its "
                    "training diverged. Download or train it again."
                )
        return self


def joint_kind(ram: Kind, sam: Kind) -> str:
    """How a concept's kind is written: one word, or both where RAM and SAM differ."""
    return ram if ram == sam else f"{ram}+{sam}"


def check_numbers(concept: Concept, *strengths: float) -> None:
    """Raise StrengthError where a strength of the concept is NaN or infinite."""
    if not all(map(isfinite, strengths)):
        raise StrengthError(
            f"{concept.name!r} was given a strength that is no number (NaN or infinite). Use one around 1."
        )
