"""Adapters of every kind, small and seeded."""

from __future__ import annotations

from pathlib import Path

import torch
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.respodiff_core.adapter.concept import Concept, ConceptInfo
from respodiff.respodiff_core.adapter.transforms import PARAMETERS, Transform
from safetensors import safe_open
from safetensors.torch import save_file

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


def rewrite_metadata(path: Path, **changes: str | None) -> None:
    """The same tensors under other metadata, as a broken or newer tool might write them."""
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        metadata = dict(file.metadata() or {}) | changes
    save_file(tensors, str(path), {k: v for k, v in metadata.items() if v is not None})
