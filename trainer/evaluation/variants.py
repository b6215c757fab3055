"""The variants (ways of steering) that are measured side by side, made from adapters and strengths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from ...respodiff_core.adapter.adapter import Adapter, merge, peek, read, unknown_concept
from ...respodiff_core.adapter.concept import Concept, ModuleConcept
from ...respodiff_core.adapter.contrast import ContrastConcept
from ...respodiff_core.errors import RespoDiffError, UnknownConceptError
from ...respodiff_core.hashes import sha256_of
from ...respodiff_core.learning.contrast_settings import in_context
from ...respodiff_core.steering.allocation import balanced
from ...respodiff_core.steering.fair_groups import FairGroup, crossed
from ...respodiff_core.steering.prompt_guard import axis_of
from ...respodiff_core.steering.steering import Term
from ..recipes.evaluation_recipe import Protocol, VariantRecipe
from ..worlds.image_spec import ImageSpec
from ..worlds.scorer import Axis
from ..worlds.world import World


@dataclass(frozen=True)
class Variant:
    """A way of steering. Each image gets one of `groups` (fairness concepts, crossed if they belong to several axes;
    may be empty) and all terms in `always` (safety and other concepts). `files` are the sha256 of the files by name.
    With `named` the groups are named in the prompts. `guidance` is the guidance scale of the images.
    """

    name: str
    adapters: tuple[Adapter, ...] = ()
    groups: tuple[FairGroup, ...] = ()
    always: tuple[Term, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    guidance: float = 7.5

    def prompt(self, spec: ImageSpec, group: FairGroup) -> str:
        """The prompt of an image of this group if it is not the spec's, else empty.

        Raises RespoDiffError if the group is to be named and cannot be.
        """
        return with_group_named(spec, group) if self.named else ""

    def assign_groups(self, specs: Sequence[ImageSpec], seed: int) -> list[FairGroup]:
        """The group that steers each image: in equal shares, in blocks over the images of a prompt as in the paper's
        code; if a prompt has only one image, shuffled by `seed` within each group of prompts.

        Raises RespoDiffError if the images of a prompt cannot be divided evenly.
        """
        # One object for all images of a group: rows with the same object are steered together.
        groups = [FairGroup(group.name, group.terms + self.always) for group in self.groups or (FairGroup("", ()),)]
        names = ", ".join(group.name for group in groups)
        check_shares(specs, len(groups), f"the {len(groups)} groups of variant {self.name!r} ({names})")
        if all(one.turns and one.turns % len(groups) == 0 for one in specs):
            numbers = [one.turn * len(groups) // one.turns for one in specs]
        else:
            numbers = _shared_within_groups(specs, len(groups), seed)
        return [groups[number] for number in numbers]


def check_shares(specs: Sequence[ImageSpec], groups: int, which: str) -> None:
    """Raise RespoDiffError if the images of a prompt (when several) cannot be divided evenly among `groups` groups."""
    fewest = min(one.turns for one in specs)
    if fewest > 1 and any(one.turns % groups for one in specs):
        raise RespoDiffError(
            f"{fewest} images of each prompt cannot be divided evenly among {which}: choose --images to "
            f"make it a multiple of {groups}."
        )


def _shared_within_groups(specs: Sequence[ImageSpec], groups: int, seed: int) -> list[int]:
    """A group number for each image, as balanced as possible within each group of prompts."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(specs):
        places.setdefault(one.group, []).append(place)
    numbers = [0] * len(specs)
    for further, own in enumerate(places.values()):
        # A different seed for each, so that remainders are spread over the groups.
        for place, number in zip(own, balanced([1.0] * groups, len(own), seed + further), strict=True):
            numbers[place] = number
    return numbers


def resolve(recipe: VariantRecipe, guidance: float = 7.5) -> Variant:
    """Read a variant's adapters; `guidance` is the guidance scale of its images. Raises RespoDiffError."""
    if not recipe.adapters:
        if recipe.concepts or recipe.strengths or recipe.scales or recipe.named or recipe.gate:
            raise RespoDiffError(
                f"Setting {recipe.name!r} has strengths, concepts, named or gate, but no adapter to take groups from."
            )
        return Variant(recipe.name, guidance=guidance)
    for path in recipe.adapters:
        peek(path)  # reject other files by their header, before hashing the whole file
    files = _hashed(recipe.adapters)
    adapters = tuple(map(read, recipe.adapters))
    if _hashed(recipe.adapters) != files:
        raise RespoDiffError(f"An adapter of variant {recipe.name!r} changed while it was read: run the command again.")
    chosen = _chosen(adapters, recipe.concepts)
    held = {concept.name for concept in chosen}
    if unknown := sorted(recipe.strengths.keys() - held):
        raise UnknownConceptError(
            f"Setting {recipe.name!r} gives a strength to {', '.join(map(repr, unknown))}; its concepts are: "
            f"{', '.join(sorted(held))}."
        )
    by_axis: dict[str, dict[str, FairGroup]] = {}
    always: list[Term] = []
    for concept in chosen:
        term = _term(concept, recipe)
        if concept.info.category == "fairness":
            groups_of_axis = by_axis.setdefault(axis_of(concept.info), {})
            before = groups_of_axis[concept.name].terms if concept.name in groups_of_axis else ()
            groups_of_axis[concept.name] = FairGroup(concept.name, (*before, term))
        else:
            always.append(term)
    if unknown := sorted(recipe.scales.keys() - by_axis.keys()):
        raise RespoDiffError(
            f"Setting {recipe.name!r} scales the axis {', '.join(map(repr, unknown))}; its axes are: "
            f"{', '.join(by_axis) or 'none'}."
        )
    groups = reduce(crossed, (tuple(one.values()) for one in by_axis.values())) if by_axis else ()
    if recipe.named and not groups:
        raise RespoDiffError(f"Setting {recipe.name!r} names groups in prompts, but its adapters have no groups.")
    return Variant(recipe.name, adapters, tuple(groups), tuple(always), files, recipe.named, guidance)


def axes_of(
    variants: Iterable[Variant],
    named: Sequence[str],
    own: Mapping[str, Mapping[str, str]],
    world: World,
    protocol: Protocol,
) -> tuple[Axis, ...]:
    """The axes to classify: those `named`; else those that the variants steer and all of the user's `own`; else the
    default axes of this world and protocol.

    The classes of an axis are the user's, or those of the world plus those of the adapters. Raises RespoDiffError for
    an unknown axis, or an axis with only one class.
    """
    adapters = [adapter for variant in variants for adapter in variant.adapters]
    infos = [concept.info for adapter in adapters for concept in adapter.concepts.values()]
    steered = {axis_of(info) for info in infos if info.category == "fairness" and axis_of(info)}
    known = world.axes(infos)
    known |= {name: Axis(name, tuple(words), tuple(words.values())) for name, words in own.items()}
    wanted = list(named) or [*own, *sorted(steered - own.keys())] or world.usual_axes(protocol)
    if unknown := [name for name in wanted if name not in known]:
        raise RespoDiffError(
            f"Unknown axis: {', '.join(map(repr, unknown))}. Known axes: {', '.join(known)}. Define its "
            'classes in the recipe: [scoring.classes.NAME] with lines  class = "words for the classifier".'
        )
    axes = tuple(known[name] for name in dict.fromkeys(wanted))
    for axis in axes:
        if len(axis) < 2:
            raise RespoDiffError(
                f"The axis {axis.name!r} has only one class ({', '.join(axis.texts)}), and a classifier needs at "
                "least two. Define its classes in the recipe, under [scoring.classes]."
            )
    return axes


def class_wanted(group: FairGroup, axis: Axis) -> int | None:
    """The class of an axis that this group steers to, by its concept's name or target; None if there is none."""
    for term in group.terms:
        info = term.concept.info
        if info.category == "fairness" and axis_of(info) == axis.name:
            if info.name in axis.classes:
                return axis.classes.index(info.name)
            if info.target in axis.texts:
                return axis.texts.index(info.target)
    return None


def _hashed(paths: Sequence[Path]) -> dict[str, str]:
    """The sha256 of each file by name, or by path if two have the same name."""
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): sha256_of(path) for path in paths}


def _chosen(adapters: Sequence[Adapter], names: Sequence[str]) -> list[Concept]:
    """The concepts of all adapters, or those with these names. A group may have one of each kind, which then act
    together.

    Raises UnknownConceptError for a name that no adapter has, and AdapterFileError for two of one kind and name.
    """
    for kind in (ModuleConcept, ContrastConcept):
        of_kind = [replace(one, concepts=_of_kind(one, kind)) for one in adapters]
        merge([one for one in of_kind if one.concepts] or of_kind)
    found = [concept for adapter in adapters for concept in adapter.concepts.values()]
    if unknown := [name for name in names if name not in {one.name for one in found}]:
        raise unknown_concept(
            unknown[0], " and ".join(adapter.source for adapter in adapters), [one.name for one in found]
        )
    return [one for name in names for one in found if one.name == name] if names else found


def _of_kind(adapter: Adapter, kind: type[Concept]) -> dict[str, Concept]:
    return {name: concept for name, concept in adapter.concepts.items() if isinstance(concept, kind)}


def _term(concept: Concept, recipe: VariantRecipe) -> Term:
    strength = recipe.strengths.get(concept.name, recipe.strength)
    if concept.info.category != "fairness":
        return Term.of(concept, strength)
    if recipe.named:
        return Term.of(concept, 0.0)
    return Term.of(concept, strength * recipe.scales.get(axis_of(concept.info), 1.0), gated=recipe.gate)


def with_group_named(spec: ImageSpec, group: FairGroup) -> str:
    """The prompt of an image with the group named before its profession: "a photo of a woman doctor".

    Raises RespoDiffError if the prompt does not contain the profession.
    """
    found = re.search(rf"\b{re.escape(spec.group)}\b", spec.prompt, re.IGNORECASE) if spec.group else None
    if found is None:
        raise RespoDiffError(
            f"The group cannot be named in the prompt {spec.prompt!r}: `named` needs prompts with a group column that "
            "says which word to put it before, such as the profession."
        )
    groups = dict.fromkeys(term.concept.name for term in group.terms if term.concept.info.category == "fairness")
    names = " ".join(groups)
    return in_context(f"{spec.prompt[: found.start()]}{{}}{spec.prompt[found.end() :]}", f"{names} {found[0]}".strip())
