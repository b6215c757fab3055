"""The user's own classifier, given as `module:attribute`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any

from ....respodiff_core.errors import RespoDiffError
from ...worlds.scorer import Axis, Classifier, ScoredImage, Scorer, Scores, rows


class OwnClassifier(Scorer):
    """`label:<axis>`: the class that the classifier returns, None if it cannot tell.

    `spec` is `module:attribute`, searched in the working directory first; the attribute is a `Classifier`. Its
    exceptions are passed on. The fingerprint covers the module's file, not what that file loads.
    """

    name = "own"
    columns = ()

    def __init__(self, spec: str, axes: tuple[Axis, ...]) -> None:
        """Raises RespoDiffError if there is no such classifier."""
        module, self._classifier = _load(spec)
        self._spec, self._axes = spec, axes
        self.fingerprint = "; ".join([f"{spec} {_digest(module)[:16]}", *(axis.in_words for axis in axes)])

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        """Raises RespoDiffError if the classifier does not return a class or None for each image."""
        images = [one.image for one in shown]
        columns = {
            axis.column: self._labels(self._classifier(images, axis.texts), axis, len(shown)) for axis in self._axes
        }
        return rows(columns, len(shown))

    def _labels(self, returned: Any, axis: Axis, count: int) -> list[int | None]:
        try:
            values = list(returned)
        except TypeError:
            raise self._wrong(axis, f"{type(returned).__name__}, not a list of numbers") from None
        if len(values) != count:
            raise self._wrong(axis, f"{len(values)} values for {count} images")
        return [None if value is None else self._label(value, axis) for value in values]

    def _label(self, value: Any, axis: Axis) -> int:
        try:
            label = index(value)
        except TypeError:
            raise self._wrong(axis, f"{value!r}, which is neither a whole number nor None") from None
        if not 0 <= label < len(axis):
            raise self._wrong(axis, f"{label}, but the classes are 0 to {len(axis) - 1}")
        return label

    def _wrong(self, axis: Axis, what: str) -> RespoDiffError:
        return RespoDiffError(
            f"The classifier {self._spec} returned for {axis.name}: {what}. It must return, for each image, the "
            "number of the text that fits best, or None if it cannot tell."
        )


def _load(spec: str) -> tuple[ModuleType, Classifier]:
    name, _, attribute = spec.partition(":")
    if not name or name.startswith(".") or not attribute:
        raise RespoDiffError(
            f"{spec!r} is not a classifier: write module:function, such as judges:gender for `gender` in judges.py."
        )
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(name)
    except ImportError as error:
        raise RespoDiffError(
            f"The classifier {spec} cannot be imported ({error}). Modules are searched in {here} and among the "
            "installed packages."
        ) from error
    classifier = getattr(module, attribute, None)
    if not callable(classifier):
        raise RespoDiffError(f"The module {name} has no function {attribute}, which the classifier {spec} names.")
    return module, classifier


def _digest(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()
