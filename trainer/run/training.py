"""A training run: from a base model and concepts to one adapter file; it can be stopped and resumed exactly."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from ...respodiff_core.adapter.adapter import write
from ...respodiff_core.adapter.concept import Concept, ModuleConcept
from ...respodiff_core.atomic import remove_partials
from ...respodiff_core.errors import RespoDiffError, TrainingDiverged
from ...respodiff_core.learning.denoiser import Condition
from ...respodiff_core.learning.fit import Fit
from ...respodiff_core.learning.objective import Prompts
from ..base.devices import accelerator_on, precision
from ..base.model import BaseModel
from ..recipes.training_recipe import ConceptRecipe, Recipe
from ..support.contact_sheet import save_image
from ..support.interrupts import GRACE, Interrupted, StopRequest, stop_requests
from ..support.output_file import refuse_to_replace
from ..support.output_lock import sole_writer
from ..support.threads import fitting_threads
from .checkpoint import RunState
from .previews import preview
from .progress import Progress
from .provenance import make_adapter, training_facts
from .recovery_hints import with_recovery_hints
from .run_folder import ResumeError, RunFolder
from .setup import (
    encode_concept,
    mean_over_processes,
    new_fit,
    open_base,
)
from .unet_evaluations import Evaluations, counting

log = logging.getLogger(__name__)


def train(recipe: Recipe, *, resume: bool = False, restart: bool = False, force: bool = False) -> Path:
    """Train all concepts of the recipe, write the adapter and return its path.

    Raises RespoDiffError (unsuitable base model, NaN, nothing to resume), Interrupted after a signal, and OSError from
    the file system. In each case the last saved state stays in the run folder.
    """
    accelerator = accelerator_on(recipe.training.device)
    folder = RunFolder(recipe.output)
    with sole_writer(folder.path, "training") if accelerator.is_main_process else nullcontext():
        _train(recipe, accelerator, folder, resume=resume, restart=restart, force=force)
    return recipe.output


def _train(
    recipe: Recipe, accelerator: Accelerator, folder: RunFolder, *, resume: bool, restart: bool, force: bool
) -> None:
    _check_output(recipe.output, folder, resume=resume, restart=restart, force=force)
    packed = folder.load(recipe.resolved(), accelerator.num_processes) if resume else None
    dtype = precision(recipe.training.precision, accelerator.device)
    with with_recovery_hints(recipe.training, dtype, folder, loading=True):
        base = open_base(recipe, accelerator.device)
        if recipe.previews.every:
            base.require_pictures()
        prompts, previews = _encode(recipe, base, accelerator.device)
        unet = base.denoiser.unet  # loaded after the text encoders are released, so that both need not fit together
        sha256 = base.sha256  # computed now: the file may be replaced later
        if accelerator.is_main_process:
            log.info("Base model %s, sha256 %.12s...", base.name, sha256)
    state = RunState.unpack(*packed, base, recipe) if packed else _fresh(accelerator)
    if accelerator.is_main_process:
        folder.clean_up() if resume else folder.begin()
    run = Run(recipe, base, accelerator, prompts, previews, folder)
    # Several processes finish the step together; otherwise the others would wait for the gradients of the stopped one.
    grace = GRACE if accelerator.num_processes == 1 else None
    with (
        fitting_threads(base.weight_bytes),
        stop_requests(accelerator.is_main_process, grace) as stop,
        with_recovery_hints(recipe.training, dtype, folder, loading=False),
        counting(unet) as evaluations,
    ):
        while state.concept < len(recipe.concepts):
            concept = run.train_concept(state, stop, evaluations)
            state = RunState(state.begun, state.processes, state.concept + 1, finished=(*state.finished, concept))
        if accelerator.is_main_process:
            run.write(recipe.output, state.finished, state.begun)
            folder.finish()
    accelerator.wait_for_everyone()
    accelerator.end_training()


@dataclass(frozen=True)
class Run:
    """What all concepts of a run share. `previews` are the conditions of "" and of each preview prompt."""

    recipe: Recipe
    base: BaseModel
    accelerator: Accelerator
    prompts: tuple[Prompts, ...]
    previews: Condition | None
    folder: RunFolder

    def train_concept(self, state: RunState, stop: StopRequest, evaluations: Evaluations) -> ModuleConcept:
        """Train concept number `state.concept` to its end, starting after step `state.step`."""
        concept = self.recipe.concepts[state.concept]
        fit = new_fit(self.base, concept, self.recipe.training, self.prompts[state.concept], self.accelerator)
        if state.step:
            fit.resume(state.step, state.learner, state.trajectories_of(fit.shard))
        logs = self.folder.logs if self.recipe.saving.tensorboard else None
        shown = self.accelerator.is_main_process
        mean = partial(mean_over_processes, self.accelerator)
        stopping, saved = 0, state.step
        with Progress(concept.name, concept.steps, state.step, evaluations, mean, logs=logs, shown=shown) as progress:
            try:
                for step in fit:
                    learner, trajectories = fit.state()
                    state = replace(state, step=step.number, learner=learner, trajectories=trajectories)
                    progress.step(step, fit.learner)
                    stopping = self._stop_requested(stop)
                    if stopping or step.number % self.recipe.saving.every == 0 or step.number == concept.steps:
                        self._save(state, fit, keep_adapter=True)
                        saved = step.number
                    if stopping:
                        break
                    if shown and self.recipe.previews.every and step.number % self.recipe.previews.every == 0:
                        self._preview(step.number, self._concept(fit), progress)
            except Interrupted as late:  # the current step is dropped
                stopping = late.signal
                if state.step > saved and self.accelerator.num_processes == 1:
                    self._save(state, fit)
                    saved = state.step
        if stopping:
            raise Interrupted(self._stopped(concept, saved), stopping)
        return self._concept(fit)

    def _stopped(self, concept: ConceptRecipe, step: int) -> str:
        if not self.folder.is_unfinished:
            return "Stopped before the first step was saved: run the same command again."
        saved = f"the state is saved in {self.folder.path}. Resume with --resume."
        return f"Stopped after step {step} of {concept.steps} of {concept.name!r}; {saved}"

    def write(self, path: Path, concepts: Sequence[Concept], begun: str) -> None:
        """Write these concepts as an adapter."""
        adapter = make_adapter(self.base, self.recipe, concepts, begun)
        write(adapter, path, getattr(torch, self.recipe.saving.dtype))

    def _save(self, state: RunState, fit: Fit, *, keep_adapter: bool = False) -> None:
        """Save the state to resume from (`state.trajectories` are those of this process). With `keep_adapter`, also
        save an intermediate adapter if the recipe keeps any.
        """
        name = fit.concept.name
        # On the device, since processes exchange tensors there.
        everyones = {
            name: self.accelerator.gather(tensor.to(self.accelerator.device))
            for name, tensor in state.trajectories.items()
        }
        if not all(bool(tensor.isfinite().all()) for tensor in (*state.learner.values(), *everyones.values())):
            raise TrainingDiverged(f"Training of {name!r} diverged: the state has NaN at step {state.step}.")
        if self.accelerator.is_main_process:
            state = replace(state, trajectories=everyones)
            self.folder.save(*state.pack(self.base), self.recipe.resolved())
            if keep_adapter and (keep := self.recipe.saving.keep):
                so_far = self._concept(fit)
                write_it = partial(self.write, concepts=[so_far], begun=state.begun)
                self.folder.add_adapter(name, state.step, keep, write_it)
        self.accelerator.wait_for_everyone()  # a process that stops now would end the others while they write

    def _stop_requested(self, stop: StopRequest) -> int:
        """The signal that any of the processes received, or 0: all stop after the same step."""
        if self.accelerator.num_processes == 1:
            return stop.requested()
        signals = torch.tensor([stop.requested()], device=self.accelerator.device)
        return int(self.accelerator.gather(signals).max())

    def _preview(self, step: int, concept: Concept, progress: Progress) -> None:
        assert self.previews is not None
        numbers = torch.arange(len(self.previews), device=self.previews.context.device)
        empty, prompts = self.previews.rows(numbers[:1]), self.previews.rows(numbers[1:])
        image = preview(self.base, concept, self.recipe.previews, prompts, empty)
        save_image(image, self.folder.previews / f"{concept.name}-{step:06d}.png")
        progress.image(step, torch.from_numpy(np.array(image)))

    def _concept(self, fit: Fit) -> ModuleConcept:
        return fit.described(training_facts(self.base, fit))


def _fresh(accelerator: Accelerator) -> RunState:
    return RunState(datetime.now(timezone.utc).strftime("%Y-%m-%d"), accelerator.num_processes)


def _encode(recipe: Recipe, base: BaseModel, device: torch.device) -> tuple[tuple[Prompts, ...], Condition | None]:
    """Encode all prompts of the run, then release the text encoders."""
    prompts = tuple(encode_concept(base, concept, device) for concept in recipe.concepts)
    previews = base.encode_prompts(["", *recipe.previews.prompts]).to(device) if recipe.previews.every else None
    base.release_text_encoders()
    return prompts, previews


def _check_output(output: Path, folder: RunFolder, *, resume: bool, restart: bool, force: bool) -> None:
    """Check the output before training, so that writing it does not fail at the end."""
    if folder.is_unfinished and not (resume or restart):
        raise ResumeError(
            f"{folder.path} has an unfinished training: resume it with --resume, or start over with --restart."
        )
    if output.is_dir():
        raise RespoDiffError(f"{output} is a folder: name a file.")
    refuse_to_replace(output, force=force or resume)
    remove_partials(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Create a file: permissions of the folder alone do not prove that it is writable.
    with tempfile.TemporaryFile(dir=output.parent, prefix=f".{output.name}."):
        pass
