"""Adapters of every kind, small and seeded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from respodiff.respodiff_core.adapter.adapter import Adapter
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.contrast import MAPS, ContrastConcept
from respodiff.respodiff_core.adapter.gate import Gate
from respodiff.respodiff_core.adapter.transforms import PARAMETERS, Transform
from respodiff.respodiff_core.names import Kind, Operation
from safetensors import safe_open
from safetensors.torch import save_file

SIZES = {"C": 6, "H": 4, "W": 4, "M": 3}


def random_transform(kind: Kind, seed: int = 0) -> Transform:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: [SIZES[s] if isinstance(s, str) else s for s in shape] for name, shape in PARAMETERS[kind].items()}
    return Transform.of({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})


def random_concept(name: str = "woman", kind: Kind = "constant", seed: int = 0, **info: Any) -> ModuleConcept:
    return ModuleConcept(ConceptInfo(name, **info), random_transform(kind, seed), random_transform(kind, seed + 1))


def random_adapter(*names: str, kind: Kind = "constant", family: str | None = "sd15") -> Adapter:
    concepts = {
        name: random_concept(name, kind, seed=index, category="fairness", target=f"a {name}", neutral="a person")
        for index, name in enumerate(names or ("woman",))
    }
    return Adapter(family, concepts, prediction="epsilon", metadata={"modelspec.author": "someone"})


def random_contrast(
    name: str = "woman",
    operation: Operation = "move",
    *,
    sites: Mapping[str, int] = {"input.1.0": 6, "middle.0.0": 8, "output.2.1": 6},
    places: int = 1,
    parts: int = 1,
    reading: bool = True,
    seed: int = 0,
    **info: Any,
) -> ContrastConcept:
    """A contrast concept whose vectors differ over `places` x `places` and `parts` of the schedule."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for site, channels in sites.items():
        for part in MAPS[operation]:
            of, ranks = f"{site}.{part}", 2 if part == "clear" else 1
            tensors[f"{of}.direction"] = torch.randn(parts, ranks, channels, places, places, generator=generator)
            tensors[f"{of}.level"] = torch.randn(parts, ranks, generator=generator)
            if reading:
                tensors[f"{of}.reading"] = torch.randn(parts, ranks, channels, 1, 1, generator=generator)
    sigmas = [10.0 / (n + 1) for n in range(parts - 1)]
    return ContrastConcept.of(ConceptInfo(name, **info), tensors, operation, sigmas)


def random_gate(groups: int, width: int = 6, seed: int = 0) -> Gate:
    generator = torch.Generator().manual_seed(seed)
    shapes = (width,), (groups, width), (groups,)
    return Gate(*(torch.randn(shape, generator=generator) for shape in shapes))


def rewrite_metadata(path: Path, **changes: str | None) -> None:
    """The same tensors under other metadata, as a broken or newer tool might write them."""
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        metadata = dict(file.metadata() or {}) | changes
    save_file(tensors, str(path), {k: v for k, v in metadata.items() if v is not None})
