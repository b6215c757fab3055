"""The ways of steering that are measured side by side, made from adapters and strengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from ...respodiff_core.adapter.adapter import Adapter, merge, peek, read
from ...respodiff_core.adapter.concept import Concept
from ...respodiff_core.errors import RespoDiffError, UnknownConceptError
from ...respodiff_core.steering.allocation import balanced
from ...respodiff_core.steering.fair_groups import FairGroup, crossed
from ...respodiff_core.steering.prompt_guard import axis_of
from ...respodiff_core.steering.steering import Term
from ..recipes.evaluation_recipe import Protocol, VariantRecipe
from ..support.hashes import sha256_of
from ..worlds.image_spec import ImageSpec
from ..worlds.scorer import Axis
from ..worlds.world import World


@dataclass(frozen=True)
class Variant:
    """A way of steering. Each picture gets one of `groups` (fairness concepts, crossed where they are of several axes;
    none: no group) and what acts `always` (safety and other concepts, summed). `files` are the sha256 of the files that
    the adapter was read from.
    """

    name: str
    adapter: Adapter | None
    groups: tuple[FairGroup, ...] = ()
    always: tuple[Term, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def assign_groups(self, specs: Sequence[ImageSpec], seed: int) -> list[FairGroup]:
        """What steers each of these pictures: groups in equal parts, block by block among the pictures of a prompt as
        in the paper's code; where a prompt has one picture only, within each group (`seed` says which gets which).

        Raises RespoDiffError where the pictures of a prompt cannot be shared evenly.
        """
        # One object for all pictures of a group: what shares a group is steered together.
        groups = [FairGroup(group.name, group.terms + self.always) for group in self.groups or (FairGroup("", ()),)]
        names = ", ".join(group.name for group in groups)
        check_shares(specs, len(groups), f"the {len(groups)} groups of setting {self.name!r} ({names})")
        if all(one.turns and one.turns % len(groups) == 0 for one in specs):
            numbers = [one.turn * len(groups) // one.turns for one in specs]
        else:
            numbers = _shared_within_groups(specs, len(groups), seed)
        return [groups[number] for number in numbers]


def check_shares(specs: Sequence[ImageSpec], groups: int, which: str) -> None:
    """Raise RespoDiffError where the several pictures of a prompt cannot be shared evenly among so many groups."""
    fewest = min(one.turns for one in specs)
    if fewest > 1 and any(one.turns % groups for one in specs):
        raise RespoDiffError(
            f"{fewest} images of each prompt cannot be shared evenly among {which}: let --images make it a multiple "
            f"of {groups}."
        )


def _shared_within_groups(specs: Sequence[ImageSpec], groups: int, seed: int) -> list[int]:
    """For each picture a number below `groups`, each as often as can be among the pictures that a ratio is taken of."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(specs):
        places.setdefault(one.group, []).append(place)
    numbers = [0] * len(specs)
    for further, own in enumerate(places.values()):
        # Another seed for each: what does not divide evenly goes round.
        for place, number in zip(own, balanced([1.0] * groups, len(own), seed + further), strict=True):
            numbers[place] = number
    return numbers


def resolve(recipe: VariantRecipe) -> Variant:
    """Read a variant's adapters. Raises RespoDiffError."""
    if not recipe.adapters:
        if recipe.concepts or recipe.strengths or recipe.scales:
            raise RespoDiffError(
                f"Setting {recipe.name!r} has strengths or concepts, but no adapter to take them from."
            )
        return Variant(recipe.name, None)
    for path in recipe.adapters:
        peek(path)  # what is no adapter is not read whole for its hash
    files = _hashed(recipe.adapters)
    adapter = _read(recipe.adapters)
    if _hashed(recipe.adapters) != files:
        raise RespoDiffError(f"An adapter of setting {recipe.name!r} was replaced while it was read: start again.")
    chosen = [adapter.concept(name) for name in recipe.concepts or adapter.concepts]
    held = {concept.name for concept in chosen}
    if unknown := sorted(recipe.strengths.keys() - held):
        raise UnknownConceptError(
            f"Setting {recipe.name!r} gives a strength to {', '.join(map(repr, unknown))}; its concepts are: "
            f"{', '.join(sorted(held))}."
        )
    by_axis: dict[str, list[FairGroup]] = {}
    always: list[Term] = []
    for concept in chosen:
        term = _term(concept, recipe)
        if concept.info.category == "fairness":
            by_axis.setdefault(axis_of(concept.info), []).append(FairGroup(concept.name, (term,)))
        else:
            always.append(term)
    if unknown := sorted(recipe.scales.keys() - by_axis.keys()):
        raise RespoDiffError(
            f"Setting {recipe.name!r} scales the axis {', '.join(map(repr, unknown))}; its axes are: "
            f"{', '.join(by_axis) or 'none'}."
        )
    groups = reduce(crossed, map(tuple, by_axis.values())) if by_axis else ()
    return Variant(recipe.name, adapter, tuple(groups), tuple(always), files)


def axes_of(
    variants: Iterable[Variant],
    named: Sequence[str],
    own: Mapping[str, Mapping[str, str]],
    world: World,
    protocol: Protocol,
) -> tuple[Axis, ...]:
    """The axes to judge: those `named`, else those that the variants steer and all of the user's `own`, else those
    that are usual in this world and protocol.

    An axis' classes are the user's, or those of the world with the adapters' further ones. Raises RespoDiffError for
    an unknown axis, and where there is only one class to tell apart.
    """
    infos = [concept.info for variant in variants if variant.adapter for concept in variant.adapter.concepts.values()]
    steered = {axis_of(info) for info in infos if info.category == "fairness" and axis_of(info)}
    known = world.axes(infos)
    known |= {name: Axis(name, tuple(words), tuple(words.values())) for name, words in own.items()}
    wanted = list(named) or [*own, *sorted(steered - own.keys())] or world.usual_axes(protocol)
    if unknown := [name for name in wanted if name not in known]:
        raise RespoDiffError(
            f"Nothing is known of the axis {', '.join(map(repr, unknown))}; known are: {', '.join(known)}. Give its "
            'classes in the recipe: [judging.classes.NAME] with lines  class = "words for the classifier".'
        )
    axes = tuple(known[name] for name in dict.fromkeys(wanted))
    for axis in axes:
        if len(axis) < 2:
            raise RespoDiffError(
                f"The axis {axis.name!r} has one class only ({', '.join(axis.texts)}): there is nothing to tell it "
                "from. Give its classes in the recipe, under [judging.classes]."
            )
    return axes


def class_wanted(group: FairGroup, axis: Axis) -> int | None:
    """The class of an axis that a picture's group asks for, by its concept's name or target; None: none of them."""
    for term in group.terms:
        info = term.concept.info
        if info.category == "fairness" and axis_of(info) == axis.name:
            if info.name in axis.classes:
                return axis.classes.index(info.name)
            if info.target in axis.texts:
                return axis.texts.index(info.target)
    return None


def _hashed(paths: Sequence[Path]) -> dict[str, str]:
    """Each file's sha256 by its name, with its folder where two have the same name."""
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): sha256_of(path) for path in paths}


def _read(paths: Sequence[Path]) -> Adapter:
    adapters = [read(path) for path in paths]
    return adapters[0] if len(adapters) == 1 else merge(adapters)


def _term(concept: Concept, recipe: VariantRecipe) -> Term:
    strength = recipe.strengths.get(concept.name, recipe.strength)
    if concept.info.category == "fairness":
        strength *= recipe.scales.get(axis_of(concept.info), 1.0)
    return Term.of(concept, strength)
