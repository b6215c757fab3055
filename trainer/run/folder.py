"""The folder beside an adapter in training: the state to resume from, logs, previews."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...respodiff_core.atomic import replacing
from ...respodiff_core.errors import RespoDiffError

_STATE = "state.safetensors"
_MAY_CHANGE = frozenset({"output", "saving", "previews", "about"})
_MAY_CHANGE_IN_A_CONCEPT = frozenset({"ram_rate", "sam_rate", "steps"})


class ResumeError(RespoDiffError):
    """A run cannot be gone on with; the message says what differs and what to do."""


ResumeError.__module__ = "respodiff"


class RunFolder:
    """`woman.run` beside `woman.safetensors`."""

    def __init__(self, output: Path) -> None:
        self.path = output.with_suffix(".run")
        self.logs = self.path / "logs"
        self.previews = self.path / "previews"
        self.adapters = self.path / "adapters"
        self._state = self.path / _STATE

    @property
    def is_unfinished(self) -> bool:
        return self._state.exists()

    def save(self, tensors: Mapping[str, torch.Tensor], progress: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
        """Keep a state, whole or not at all; the one before stays until this one is complete."""
        metadata = {"progress": json.dumps(progress), "recipe": json.dumps(recipe)}
        data = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)
        with replacing(self._state) as partial:
            partial.write_bytes(data)

    def load(self, recipe: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The kept tensors and progress. Raises ResumeError where there is none or its recipe was another."""
        if not self.is_unfinished:
            raise ResumeError(f"There is nothing to resume in {self.path}: start without --resume.")
        try:
            with safe_open(str(self._state), framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise ResumeError(f"{self._state} cannot be read ({error}): start again with --restart.") from error
        changed = sorted(_differences(json.loads(metadata["recipe"]), dict(recipe)))
        if changed:
            raise ResumeError(
                f"{self.path} was begun with another recipe; it differs in: {', '.join(changed)}. Give the values it "
                "was begun with, or start again with --restart."
            )
        return tensors, json.loads(metadata["progress"])

    def begin(self) -> None:
        """Make the folder; a state of an earlier run in it is given up."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._state.unlink(missing_ok=True)

    def finish(self) -> None:
        """The adapter is written: forget the state, and the folder if nothing else is in it."""
        self._state.unlink(missing_ok=True)
        if self.path.exists() and not any(self.path.iterdir()):
            self.path.rmdir()


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> set[str]:
    """Places where two recipes differ in what shapes the result; rates, lengths and looks may change."""
    found = set()
    for key in begun.keys() | now.keys():
        old, new, here = begun.get(key), now.get(key), f"{place}{key}"
        if (not place and key in _MAY_CHANGE) or (place.startswith("concepts.") and key in _MAY_CHANGE_IN_A_CONCEPT):
            continue
        if key == "concepts" and len(old or ()) == len(new or ()):
            for number, (one, other) in enumerate(zip(old or (), new or (), strict=True), 1):
                found |= _differences(one, other, f"concepts.{number}.")
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= _differences(old, new, f"{here}.")
        elif old != new:
            found.add(here)
    return found
