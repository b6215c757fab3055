"""Selects the world of a base model."""

from __future__ import annotations

from collections.abc import Mapping

from ..toyworld.toyworld import ToyWorld
from .photographs import Photographs
from .scorer import Axis, Scorer
from .world import World

_BUILT_IN: Mapping[str, World] = {"toyworld": ToyWorld()}
_PHOTOGRAPHS = Photographs()


def world_of(base: str | None) -> World:
    """The world of a base model, given by its name in recipes or by its family."""
    return _BUILT_IN.get(base or "", _PHOTOGRAPHS)


def own_classifier(name: str, axes: tuple[Axis, ...]) -> Scorer | None:
    """The built-in classifier of that name, whatever the base model; None if there is none. Raises RespoDiffError for
    axes that it cannot classify.
    """
    world = next((one for one in _BUILT_IN.values() if one.classifier == name), None)
    return world.own_classifier(axes) if world else None
