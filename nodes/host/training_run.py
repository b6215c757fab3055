"""Trains a concept on a loaded MODEL: memory, progress, previews, interrupts and saved states, as in ComfyUI."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from comfy import model_management
from comfy.utils import ProgressBar
from PIL import Image

from ...respodiff_core.adapter.concept import ModuleConcept
from ...respodiff_core.errors import RespoDiffError, TrainingDiverged, reason_of
from ...respodiff_core.learning.fit import Fit, FitStep, checked_losses, steering_share
from ...respodiff_core.learning.sampling import noise_of_seeds
from . import node_text
from .denoiser import HostDenoiser
from .training_state import StateFile, TrainingState

logger = logging.getLogger("respodiff")

_REPORT_EVERY = 1.0  # seconds; reading a loss makes the CPU wait for the device
_SAVE_EVERY = 60.0  # seconds
_LARGEST_PREVIEW = 512  # pixels
_MIDWAY = 500  # timestep

Preview = Callable[[ModuleConcept], Image.Image]


@dataclass(frozen=True)
class Watch:
    """Where progress is shown: on the node with this id, with a preview image every so many steps (0: none)."""

    node: str | None
    preview: Preview
    preview_every: int

    def say(self, text: str) -> None:
        """Show a text on the node."""
        node_text.show(self.node, text)


def train(fit: Fit, denoiser: HostDenoiser, watch: Watch) -> torch.Tensor:
    """Train to the end, and return the losses (steps, 2) of RAM and SAM. The model must be loaded.

    Every completed step is saved, whatever ends the training: an interrupt, a lack of memory, an error. The next
    training with these settings on this model goes on there. Raises RespoDiffError.
    """
    steps = fit.concept.steps
    kept = _Kept(StateFile(fit.concept.name, _identity(fit), _predictions(fit, denoiser)), steps)
    if kept.state is not None:
        fit.resume(kept.state.step, kept.state.learner, kept.state.trajectories)
        logger.info("RespoDiff: the training of %r goes on after step %d.", fit.concept.name, fit.number)
    else:
        watch.say("Sampling the first trajectories")
    bar, first, began = ProgressBar(steps), fit.number, time.monotonic()
    bar.update_absolute(first)
    reporting, saving = _Every(_REPORT_EVERY), _Every(_SAVE_EVERY)
    with _ending_well(fit, kept, watch):
        while fit.number < steps:
            with denoiser.differentiable():
                step = fit.step()
            kept.add(fit, step)
            bar.update(1)
            is_last = step.number == steps
            if reporting.is_due() or is_last:
                left = (time.monotonic() - began) / (step.number - first) * (steps - step.number)
                watch.say(_report(fit, step, left))
            if saving.is_due():
                kept.save()
            if watch.preview_every and step.number % watch.preview_every == 0 and not is_last:
                image = watch.preview(fit.finished())
                denoiser.load()  # decoding may have moved the model out of memory
                bar.update_absolute(step.number, preview=("JPEG", image, _LARGEST_PREVIEW))
    return kept.losses


class _Kept:
    """The state after the last completed step, and the file that it is saved to."""

    def __init__(self, file: StateFile, steps: int) -> None:
        self._file = file
        self.state = file.load(steps)
        self._saved = 0 if self.state is None else self.state.step
        self._losses = [torch.empty(0, 2) if self.state is None else self.state.losses]

    @property
    def losses(self) -> torch.Tensor:
        """The losses so far (steps, 2), on the CPU."""
        self._losses = [torch.cat([one.cpu() for one in self._losses])]
        return self._losses[0]

    def add(self, fit: Fit, step: FitStep) -> None:
        """Keep the state after this step."""
        losses = torch.stack([step.losses.ram_loss, step.losses.sam_loss])[None]
        self._losses.append(losses)
        self.state = TrainingState(step.number, *fit.state(), losses)

    def save(self) -> None:
        """Write the state. A disk that cannot be written to does not end the training.

        Raises TrainingDiverged instead of saving NaN.
        """
        state = self.state
        if state is None or state.step == self._saved:
            return
        if not all(bool(tensor.isfinite().all()) for tensor in (*state.learner.values(), *state.trajectories.values())):
            raise TrainingDiverged(f"Training diverged: the state has NaN at step {state.step}.")
        try:
            self._file.save(replace(state, losses=self.losses))
            self._saved = state.step
        except OSError as error:
            logger.warning("RespoDiff: the state of the training cannot be saved (%s).", error)

    @property
    def is_on_disk(self) -> bool:
        return self.state is not None and self.state.step == self._saved


class _Every:
    """Is due once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


@contextmanager
def _ending_well(fit: Fit, kept: _Kept, watch: Watch) -> Iterator[None]:
    """Save the state at the end, and say what to do after NaN, a lack of memory and an interrupt."""
    try:
        yield
        kept.save()
    except TrainingDiverged as error:
        raise TrainingDiverged(
            f"{error} Lower ram_rate and sam_rate (choose 'own words'), or load the model in fp32 or bf16."
        ) from None
    except BaseException as error:
        with suppress(TrainingDiverged):
            kept.save()
        again = f" Step {fit.number} is saved: queue again to go on there." if kept.is_on_disk else ""
        watch.say(f"Stopped after step {fit.number} of {fit.concept.steps}.{again}")
        if not isinstance(error, (model_management.OOM_EXCEPTION, MemoryError)):
            raise
        raise RespoDiffError(
            f"There is not enough memory to train ({reason_of(error)}). Turn checkpointing on, lower batch_size, or "
            f"connect a smaller latent.{again}"
        ) from None


def _report(fit: Fit, step: FitStep, left: float) -> str:
    """The step, the time left in seconds, the losses, and how strongly the concept acts so far."""
    losses = torch.stack([step.losses.ram_loss, step.losses.sam_loss])
    ram_loss, sam_loss = checked_losses(losses, fit.concept.name, step.number)
    share = float(steering_share(step.frozen.h, fit.learner.modules))
    return (
        f"Step {step.number} of {fit.concept.steps}, {_in_words(round(left))} left\n"
        f"RAM {ram_loss:.3g}, SAM {sam_loss:.3g}, adds {share:.1%} of h"
    )


def _in_words(seconds: int) -> str:
    minutes, hours = seconds // 60 % 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _identity(fit: Fit) -> dict[str, Any]:
    """What identifies a training, besides the model: its settings without the steps, and the modules it starts from."""
    concept = {name: value for name, value in asdict(fit.concept).items() if name != "steps"}
    digest = hashlib.sha256()
    for module in fit.learner.finished():
        for tensor in module.tensors.values():
            digest.update(tensor.contiguous().numpy().tobytes())
    return {"concept": concept, "training": asdict(fit.training), "latent": fit.latent, "start": digest.hexdigest()}


@torch.no_grad()
def _predictions(fit: Fit, denoiser: HostDenoiser) -> torch.Tensor:
    """What the model predicts from the same noise for each prompt of the concept."""
    table: Any = fit.objective.prompts.table
    noise = noise_of_seeds([0] * len(table), fit.latent).to(denoiser.device)
    t = torch.full((len(table),), _MIDWAY, device=denoiser.device)
    return denoiser.decode(*denoiser.encode(noise, t, table), table)
