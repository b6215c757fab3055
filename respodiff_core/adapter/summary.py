"""A readable summary of an adapter, used by the nodes and the command line."""

from __future__ import annotations

import torch

from ..names import MIDDLE
from ..plain_text import plain
from .adapter import Adapter
from .concept import Concept, ModuleConcept
from .contrast import ContrastConcept, LowRankMap
from .families import family_title, pixels_per_latent
from .transforms import Transform

_SHOWN_METADATA = ("title", "author", "license", "date", "description")
_MOST = 100  # maximum number of concepts shown
_LONGEST = 1000  # maximum number of characters in a line


def rms_map(module: Transform) -> torch.Tensor | None:
    """Root mean square over channels at each position of h: (H, W), or (1, 1) for a channel module.

    None for mlp and conv modules, since their output depends on h.
    """
    if module.depends_on_h:
        return None
    return module.tensors[""].float().square().mean(dim=0).sqrt()


def summarise(adapter: Adapter) -> str:
    """Several lines of text, safe to print: the file, then each concept with its prompts, training and strengths."""
    lines = [f"{adapter.source}: {family_title(adapter.family)}, {_count(len(adapter.concepts))}"]
    if adapter.prediction:
        lines[0] += f", {adapter.prediction} prediction"
    for key in _SHOWN_METADATA:
        value = adapter.metadata.get(f"modelspec.{key}")
        if value:
            lines.append(f"  {key}: {value}")
    lines += [f"  note: {note}" for note in adapter.notes]
    concepts = list(adapter.concepts.values())
    for concept in concepts[:_MOST]:
        lines += ["", *_concept_lines(concept, pixels_per_latent(adapter.family))]
    if len(concepts) > _MOST:
        lines += ["", f"and {_count(len(concepts) - _MOST)} more"]
    return "\n".join(plain(line, _LONGEST) for line in lines)


def _count(number: int) -> str:
    return "1 concept" if number == 1 else f"{number} concepts"


def _concept_lines(concept: Concept, pixels: int) -> list[str]:
    info = concept.info
    lines = [f"{info.name} ({info.category}, {concept.kind}, {_where(concept)})"]
    if isinstance(concept, ModuleConcept):
        lines += [f"  {what}: {_strength(module)}" for what, module in (("RAM", concept.ram), ("SAM", concept.sam))]
    else:
        lines += [f"  {site}: {size:.4g}" for site, size in site_sizes(concept).items()]
    if info.axis:
        lines.append(f"  axis: {info.axis}")
    prompts = {"target": info.target, "neutral": info.neutral, "negative": info.negative}
    lines += [f"  {what} prompt: {text}" for what, text in prompts.items() if text]
    lines.append(f"  recommended strength: {info.strength:g}")
    if info.guidance:
        at = ", ".join(f"{info.strength * factor:.3g} at CFG {scale:g}" for scale, factor in info.guidance)
        lines.append(f"  strength 1 stands for: {at}")
    if isinstance(concept, ContrastConcept) and concept.gate:
        lines.append("  has a gate, which knows prompts that name a group of the axis")
    if info.latent_height and info.latent_width:
        lines.append(f"  trained at: {info.latent_width * pixels} x {info.latent_height * pixels} pixels")
    lines += [f"  {key.replace('_', ' ')}: {value}" for key, value in info.training.items()]
    return lines


def site_sizes(concept: Concept) -> dict[str, float]:
    """How strongly a contrast concept acts at each site: the Frobenius norm of the affine map that sets the group, root
    mean square over the parts of the schedule. Empty for other concepts.
    """
    if not isinstance(concept, ContrastConcept):
        return {}
    return {site: _size(maps["set"]) for site, maps in concept.layers.items()}


def _size(one: LowRankMap) -> float:
    squares = one.level.square()
    if one.reading is not None:
        squares = squares + one.reading.square().sum(2).mean((2, 3))
    return (one.direction.square().sum(2).mean((2, 3)) * squares).sum(1).mean().sqrt().item()


def _where(concept: Concept) -> str:
    sites = concept.sites
    if concept.site == MIDDLE:
        return f"{sites[MIDDLE]} channels"
    operation = {"add": "added to", "move": "moves"}[concept.operation]
    return f"{operation} {len(sites)} cross-attention layers"


def _strength(module: Transform) -> str:
    acts = rms_map(module)
    if acts is None:
        size = sum(tensor.numel() for tensor in module.tensors.values())
        return f"depends on h ({module.kind}, {size:,} weights)"
    rms = acts.square().mean().sqrt().item()
    if rms == 0:
        return "none (all zeros)"
    if acts.numel() == 1:
        return f"rms {rms:.4g}, the same everywhere"
    return f"rms {rms:.4g}, {acts.min():.4g} to {acts.max():.4g} over {acts.shape[1]} x {acts.shape[0]} positions"
