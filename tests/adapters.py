"""Adapters of every kind, small and seeded."""

from __future__ import annotations

import torch
from respodiff.respodiff_core.adapter import Adapter
from respodiff.respodiff_core.concept import Concept, ConceptInfo
from respodiff.respodiff_core.transforms import PARAMETERS, Transform

SIZES = {"C": 6, "H": 4, "W": 4, "M": 3}


def random_transform(kind: str, seed: int = 0) -> Transform:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: [SIZES[s] if isinstance(s, str) else s for s in shape] for name, shape in PARAMETERS[kind].items()}
    return Transform.of({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})


def random_concept(name: str = "woman", kind: str = "constant", seed: int = 0, **info: object) -> Concept:
    return Concept(ConceptInfo(name, **info), random_transform(kind, seed), random_transform(kind, seed + 1))


def random_adapter(*names: str, kind: str = "constant", family: str | None = "sd15") -> Adapter:
    concepts = {
        name: random_concept(name, kind, seed=index, category="fairness", target=f"a {name}", neutral="a person")
        for index, name in enumerate(names or ("woman",))
    }
    return Adapter(family, concepts, prediction="epsilon", metadata={"modelspec.author": "someone"})
