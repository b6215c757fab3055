"""Saved states of trainings in the graph, in ComfyUI's output folder: an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...respodiff_core.atomic import replacing

logger = logging.getLogger("respodiff")

_KEPT = 20  # files, the newest
_SAME_MODEL = 5e-3  # relative difference of predictions; half precision repeats itself to 1e-3

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingState:
    """The state after `step` steps: that of the learner and of the trajectories, and the losses (steps, 2) so far."""

    step: int
    learner: Tensors
    trajectories: Tensors
    losses: torch.Tensor


class StateFile:
    """The saved state of one training: of these settings on the model with these `predictions`.

    The model is recognised by what it predicts, so that LoRAs, merged weights and patches count as part of it.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], predictions: torch.Tensor) -> None:
        self._settings = json.dumps(settings, sort_keys=True)
        self._predictions = predictions.float().cpu()
        key = hashlib.sha256(self._settings.encode()).hexdigest()[:12]
        self._folder = Path(folder_paths.get_output_directory(), "respodiff", "training")
        self._stem = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60]}-{key}"
        self._path: Path | None = None

    def load(self, steps: int) -> TrainingState | None:
        """The saved state with at most `steps` steps, if there is one."""
        for path in sorted(self._folder.glob(f"{self._stem}-*.safetensors")):
            state = self._read(path, steps)
            if state is not None:
                self._path = path
                return state
        return None

    def save(self, state: TrainingState) -> None:
        """Write the state; the previous one stays until the new one is complete. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._path is None:
            numbers = (self._folder / f"{self._stem}-{number}.safetensors" for number in range(1, 1_000_000))
            self._path = next(path for path in numbers if not path.exists())
        tensors = {f"learner/{name}": tensor for name, tensor in state.learner.items()}
        tensors |= {f"trajectories/{name}": tensor for name, tensor in state.trajectories.items()}
        tensors |= {"losses": state.losses, "predictions": self._predictions}
        data = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            {"step": str(state.step), "settings": self._settings},
        )
        with replacing(self._path) as partial:
            partial.write_bytes(data)
        self._remove_old()

    def _read(self, path: Path, steps: int) -> TrainingState | None:
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata()
                step = int(metadata["step"])
                if metadata["settings"] != self._settings or step > steps:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("RespoDiff: %s is passed over: it cannot be read (%s).", path.name, error)
            return None
        then = tensors["predictions"]
        if then.shape != self._predictions.shape:
            return None
        if not (then - self._predictions).norm() <= _SAME_MODEL * then.norm():
            return None  # another model
        learner, trajectories = (_below(prefix, tensors) for prefix in ("learner/", "trajectories/"))
        return TrainingState(step, learner, trajectories, tensors["losses"])

    def _remove_old(self) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in files[_KEPT:]:
            old.unlink(missing_ok=True)


def _below(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
