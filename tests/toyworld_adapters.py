"""Adapters for ToyWorld that nobody trained: random vectors under the names of its groups."""

from __future__ import annotations

from pathlib import Path

import torch
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.respodiff_core.adapter.concept import Concept, ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.transforms import Transform, initial
from respodiff.respodiff_core.names import Kind

H_SHAPE = (96, 4, 4)


def concept(name: str, axis: str, seed: int = 0, kind: Kind = "constant", **facts: object) -> Concept:
    generator = torch.Generator().manual_seed(seed)

    def module() -> Transform:
        shapes = initial(kind, H_SHAPE, 8, generator)
        return Transform.of({key: 0.3 * torch.randn(one.shape, generator=generator) for key, one in shapes.items()})

    words = {"category": "fairness", "target": f"a {name} person", "neutral": "a person", "axis": axis, **facts}
    return ModuleConcept(ConceptInfo(name, **words), module(), module())


def shape_adapter(path: Path, **facts: object) -> Path:
    """Both head shapes."""
    concepts = [concept(name, "shape", seed, **facts) for seed, name in enumerate(("round", "square"))]
    return write(Adapter("toyworld", {one.name: one for one in concepts}, "epsilon"), path)
