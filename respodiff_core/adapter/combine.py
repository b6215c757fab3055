"""Scales an adapter, and sums the concepts of adapters into one. `adapter.merge` keeps them separate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ..errors import AdapterFileError, StrengthError
from .adapter import Adapter, check_same_model
from .concept import Concept, ConceptInfo, ModuleConcept, check_numbers, is_plain
from .transforms import Transform

_AnyConcept = TypeVar("_AnyConcept", bound=Concept)


def scaled(adapter: Adapter, strength: float) -> Adapter:
    """The adapter with RAM and SAM of all concepts multiplied by `strength`; the same adapter for 1.

    Raises StrengthError for a negative strength of a safety concept, and for NaN and infinity.
    """
    if strength == 1.0:
        return adapter
    return replace(adapter, concepts={name: _scaled(one, strength) for name, one in adapter.concepts.items()})


def as_one(adapters: Sequence[Adapter], name: str) -> Adapter:
    """An adapter with a single concept `name`: the sum of all concepts of these adapters at strength 1.

    Constants of different sizes are resampled to the largest. If one of the concepts is a safety concept, so is the
    sum. Raises AdapterFileError for mlp and conv concepts, since a sum of these is not a module of the same kind, and
    for adapters of different families, prediction types or numbers of channels.
    """
    check_same_model(adapters)
    concepts = [_with_modules(concept) for adapter in adapters for concept in adapter.concepts.values()]
    sources = ", ".join(adapter.source for adapter in adapters)
    dependent = [concept.name for concept in concepts if concept.ram.depends_on_h or concept.sam.depends_on_h]
    if dependent:
        raise AdapterFileError(
            f"{', '.join(map(repr, dependent))} of {sources} cannot be summed into one concept, since they have mlp or "
            "conv modules. Keep the concepts separate instead (leave as_one empty)."
        )
    infos = [concept.info for concept in concepts]
    categories = {info.category for info in infos}
    largest = max(infos, key=lambda info: (info.latent_height or 0) * (info.latent_width or 0))
    info = ConceptInfo(
        name,
        "safety" if "safety" in categories else categories.pop() if len(categories) == 1 else "other",
        target=_joined([one.target for one in infos]),
        neutral=_joined([one.neutral for one in infos]),
        negative=_joined([one.negative for one in infos]),
        latent_height=largest.latent_height,
        latent_width=largest.latent_width,
        guidance=infos[0].guidance if len({one.guidance for one in infos}) == 1 else (),
        training={"combined_from": [origin for one in infos for origin in _origins(one)]},
    )
    recommended = [_scaled(one, one.info.strength) for one in concepts]
    ram, sam = _sum([one.ram for one in recommended]), _sum([one.sam for one in recommended])
    first = adapters[0]
    return Adapter(first.family, {name: ModuleConcept(info, ram, sam)}, first.prediction, source=name)


def _with_modules(concept: Concept) -> ModuleConcept:
    if not isinstance(concept, ModuleConcept):
        raise AdapterFileError(
            f"{concept.name!r} is a contrast concept, and only RAM and SAM can be summed into one concept. Keep the "
            "concepts separate instead (leave as_one empty)."
        )
    return concept


def _scaled(concept: _AnyConcept, strength: float) -> _AnyConcept:
    check_numbers(concept, strength)
    if concept.info.category == "safety" and strength < 0:
        raise StrengthError(
            f"{concept.name!r} is a safety concept: with a negative strength the file would steer towards what the "
            "concept was trained to avoid. Use a strength of 0 or more."
        )
    return concept.scaled(strength)


def _sum(modules: Sequence[Transform]) -> Transform:
    sizes = [size for module in modules if (size := module.native_size)]
    height, width = max(sizes, key=lambda size: size[0] * size[1], default=(1, 1))
    total = modules[0].field(height, width)
    for module in modules[1:]:
        total = total + module.field(height, width)
    return Transform.of({"": total})


def _origins(info: ConceptInfo) -> list[dict[str, object]]:
    """Training information of the concept or of the concepts it was combined from, without deeply nested values."""
    origins = info.training.get("combined_from")
    if not isinstance(origins, list) or not all(isinstance(one, dict) for one in origins):
        origins = [dict(info.training) | {"concept": info.name}]
    return [{key: value for key, value in origin.items() if is_plain(value, 2)} for origin in origins]


def _joined(prompts: Sequence[str]) -> str:
    return " | ".join(dict.fromkeys(prompt for prompt in prompts if prompt))
