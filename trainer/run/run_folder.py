"""The folder beside an adapter in training: the state to resume from, logs, previews."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...respodiff_core.atomic import remove_partials, remove_partials_in, replacing
from ...respodiff_core.errors import RespoDiffError
from ...respodiff_core.learning.settings import ConceptSettings
from ...respodiff_core.names import SUFFIX
from ..support.differences import Place, differences

_STATE = "state.safetensors"
_MAY_CHANGE = frozenset({"base", "output", "saving", "previews", "about"})  # the base is known by its hash
_MAY_CHANGE_IN_A_CONCEPT = frozenset(
    one.name for one in fields(ConceptSettings) if one.metadata["json_schema_extra"].get("may_change")
)


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

    def load(self, recipe: Mapping[str, Any], processes: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The kept tensors and progress.

        Raises ResumeError where there is none, or its recipe or number of processes was another.
        """
        if not self.is_unfinished:
            raise ResumeError(f"There is nothing to resume in {self.path}: start without --resume.")
        try:
            with safe_open(str(self._state), framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise ResumeError(f"{self._state} cannot be read ({error}): start over with --restart.") from error
        changed = differences(json.loads(metadata["recipe"]), recipe, _may_change)
        if changed:
            raise ResumeError(
                f"{self.path} was started with another recipe; it differs in: {', '.join(changed)}. Use the values it "
                "was started with, or start over with --restart."
            )
        progress = json.loads(metadata["progress"])
        if progress["processes"] != processes:
            raise ResumeError(
                f"{self.path} was started by {progress['processes']} processes, not {processes}: launch as "
                "many, or start over with --restart."
            )
        steps = recipe["concepts"][progress["concept"]]["steps"]
        if steps < progress["step"]:
            raise ResumeError(
                f"{self.path} has trained {progress['step']} steps already, more than the {steps} asked for now."
            )
        return tensors, progress

    def begin(self) -> None:
        """Make the folder; what an earlier run left in it is given up, anything else in it stays."""
        self._state.unlink(missing_ok=True)
        remove_partials(self._state)
        for folder in (self.logs, self.previews, self.adapters):
            shutil.rmtree(folder, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def go_on(self) -> None:
        """Delete what killed processes were writing."""
        remove_partials(self._state)
        for folder in (self.previews, self.adapters):
            remove_partials_in(folder)

    def add_adapter(self, concept: str, step: int, keep: int, write: Callable[[Path], None]) -> None:
        """Have `write` put an adapter of the way where it is told; the newest `keep` of this concept stay."""
        self.adapters.mkdir(exist_ok=True)
        write(self.adapters / f"{concept}-{step:06d}{SUFFIX}")
        pattern = re.compile(re.escape(concept) + r"-\d{6,}" + re.escape(SUFFIX))
        kept = [path for path in self.adapters.iterdir() if pattern.fullmatch(path.name)]
        kept.sort(key=lambda path: (len(path.name), path.name))  # step 1000000 comes after 999999
        for old in kept[:-keep]:
            old.unlink()

    def finish(self) -> None:
        """The adapter is written: forget the state."""
        self._state.unlink(missing_ok=True)


def _may_change(place: Place) -> bool:
    """Whether a setting may have another value when a training is resumed: rates, lengths and looks may."""
    if len(place) == 1:
        return place[0] in _MAY_CHANGE
    return place[0] == "concepts" and place[-1] in _MAY_CHANGE_IN_A_CONCEPT
