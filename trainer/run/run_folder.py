"""The run folder beside an adapter in training: saved state, logs, previews."""

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
_MAY_CHANGE = frozenset({"base", "output", "saving", "previews", "about"})  # the base model is compared by its hash
_MAY_CHANGE_IN_A_CONCEPT = frozenset(
    one.name for one in fields(ConceptSettings) if one.metadata["json_schema_extra"].get("may_change")
)


class ResumeError(RespoDiffError):
    """A run cannot be resumed; the message says what differs and what to do."""


ResumeError.__module__ = "respodiff"


class RunFolder:
    """The folder `woman.run` beside `woman.safetensors`."""

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
        """Save a state atomically: the previous one stays until the new one is complete."""
        metadata = {"progress": json.dumps(progress), "recipe": json.dumps(recipe)}
        data = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)
        with replacing(self._state) as partial:
            partial.write_bytes(data)

    def load(self, recipe: Mapping[str, Any], processes: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The saved tensors and progress.

        Raises ResumeError if there is no saved state, or its recipe or number of processes differs.
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
                f"{self.path} was started with another recipe, which differs in: {', '.join(changed)}. Use its "
                "values, or start over with --restart."
            )
        progress = json.loads(metadata["progress"])
        if progress["processes"] != processes:
            raise ResumeError(
                f"{self.path} was started by {progress['processes']} processes, not {processes}: launch the "
                "same number, or start over with --restart."
            )
        steps = recipe["concepts"][progress["concept"]]["steps"]
        if steps < progress["step"]:
            raise ResumeError(
                f"{self.path} has already trained {progress['step']} steps, more than the {steps} requested now."
            )
        return tensors, progress

    def begin(self) -> None:
        """Create the folder and delete the files of an earlier run; other files stay."""
        self._state.unlink(missing_ok=True)
        remove_partials(self._state)
        for folder in (self.logs, self.previews, self.adapters):
            shutil.rmtree(folder, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def clean_up(self) -> None:
        """Delete partial files of killed processes."""
        remove_partials(self._state)
        for folder in (self.previews, self.adapters):
            remove_partials_in(folder)

    def add_adapter(self, concept: str, step: int, keep: int, write: Callable[[Path], None]) -> None:
        """Save an intermediate adapter with `write`, which takes the path; keep the newest `keep` of this concept."""
        self.adapters.mkdir(exist_ok=True)
        write(self.adapters / f"{concept}-{step:06d}{SUFFIX}")
        pattern = re.compile(re.escape(concept) + r"-\d{6,}" + re.escape(SUFFIX))
        kept = [path for path in self.adapters.iterdir() if pattern.fullmatch(path.name)]
        kept.sort(key=lambda path: (len(path.name), path.name))  # step 1000000 comes after 999999
        for old in kept[:-keep]:
            old.unlink()

    def finish(self) -> None:
        """Delete the saved state, once the adapter is written."""
        self._state.unlink(missing_ok=True)


def _may_change(place: Place) -> bool:
    """Whether a setting may change when a training is resumed, as learning rates, steps and previews may."""
    if len(place) == 1:
        return place[0] in _MAY_CHANGE
    return place[0] == "concepts" and place[-1] in _MAY_CHANGE_IN_A_CONCEPT
