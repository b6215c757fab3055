"""A training run: base model and concepts in, one adapter file out; stopped at any moment, it goes on exactly."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ..respodiff_core.adapter import Adapter, write
from ..respodiff_core.concept import Concept, ConceptInfo
from ..respodiff_core.denoiser import Condition
from ..respodiff_core.diffusion import Schedule
from ..respodiff_core.errors import RespoDiffError
from ..respodiff_core.learner import ROLES, Learner, StepResult
from ..respodiff_core.objective import Prompts, ReferenceScoreMatching, ScoreMatching
from ..respodiff_core.trajectories import FreshRollouts, Pool, Share, Trajectories
from ..respodiff_core.transforms import Transform
from .base.model import TOYWORLD, BaseModel, load_base
from .evaluations import counting
from .interrupts import Interrupted, StopRequest, stop_requests
from .previews import preview, save_picture
from .progress import Progress, TrainingDiverged
from .recipe import ConceptRecipe, Recipe, RecipeError, TrainingRecipe
from .run_folder import ResumeError, RunFolder
from .toyworld.world import words

log = logging.getLogger(__name__)

_HIDDEN_SHARE = 4  # mlp and conv modules are a fourth of h's width inside, unless told otherwise


@dataclass(frozen=True)
class Setting:
    """What all concepts of a run share."""

    recipe: Recipe
    base: BaseModel
    accelerator: Accelerator
    prompts: tuple[Prompts, ...]
    preview_condition: Condition | None
    folder: RunFolder
    begun: str

    @property
    def share(self) -> Share:
        return Share(self.accelerator.process_index, self.accelerator.num_processes)


@dataclass(frozen=True)
class Start:
    """Where to begin: which concept, after which step, with which state; what is finished already."""

    concept: int = 0
    step: int = 0
    tensors: Mapping[str, torch.Tensor] | None = None
    finished: tuple[Concept, ...] = ()


def train(recipe: Recipe, *, resume: bool = False, restart: bool = False, force: bool = False) -> Path:
    """Train all concepts of the recipe and write the adapter; its path.

    Raises RespoDiffError (a bad base, NaN, nothing to resume), Interrupted after a signal, and OSError as the file
    system does. Whatever happens, the state of the last save stays in the run folder.
    """
    accelerator = Accelerator(cpu=recipe.training.device == "cpu")
    folder = RunFolder(recipe.output)
    _check_output(recipe.output, folder, resume=resume, restart=restart, force=force)
    base = open_base(recipe, accelerator.device)
    resolved = recipe.resolved()
    tensors, progress = folder.load(resolved) if resume else ({}, {})
    if accelerator.is_main_process and not resume:
        folder.begin()
    prompts, preview_condition = _encode(recipe, base, accelerator.device)
    begun = progress.get("begun") or datetime.now(timezone.utc).strftime("%Y-%m-%d")
    setting = Setting(recipe, base, accelerator, prompts, preview_condition, folder, begun)
    start = _start(setting, tensors, progress) if resume else Start()
    finished = list(start.finished)
    with stop_requests() as stop, _advised(setting):
        for number in range(start.concept, len(recipe.concepts)):
            at = start if number == start.concept else Start(number)
            finished.append(_train_concept(setting, number, at, tuple(finished), stop))
        if accelerator.is_main_process:
            write(_adapter(setting, finished), recipe.output, getattr(torch, recipe.saving.dtype))
            folder.finish()
    accelerator.wait_for_everyone()
    return recipe.output


def open_base(recipe: Recipe, device: torch.device) -> BaseModel:
    """The base model of a recipe, in its precision, at its size."""
    training = recipe.training
    if recipe.base == TOYWORLD:
        check_words(recipe)
    return load_base(
        recipe.base,
        device=device,
        dtype=precision(training, device),
        prediction=None if training.prediction == "auto" else training.prediction,
        latent_size=training.latent_size,
        checkpointing=training.checkpointing,
    )


def check_words(recipe: Recipe) -> None:
    """Raise RecipeError where a prompt has a word that ToyWorld has no picture of."""
    known = set(words())
    for concept in recipe.concepts:
        prompts = " ".join([*concept.neutral, concept.target, concept.negative]).split()
        if unknown := [word for word in prompts if word.lower() not in known]:
            raise RecipeError(
                f"ToyWorld has never seen {', '.join(map(repr, unknown))} (concept {concept.name!r}). Its own presets "
                f"start with toyworld/, and its words are: {', '.join(sorted(known))}."
            )


def new_learner(base: BaseModel, concept: ConceptRecipe, training: TrainingRecipe, accelerator: Accelerator) -> Learner:
    """RAM and SAM of a concept, at zero."""
    shape = base.h_shape(*base.latent_size)

    def average(gradient: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = accelerator.reduce(gradient, reduction="mean")
        return mean

    return Learner(
        training.kind,
        shape,
        ram_rate=concept.ram_rate,
        sam_rate=concept.sam_rate,
        sam_weight=concept.sam_weight,
        update=training.update,
        hidden=training.hidden or max(shape[0] // _HIDDEN_SHARE, 1),
        seed=training.seed,
        device=accelerator.device,
        **({"average": average} if accelerator.num_processes > 1 else {}),
    )


def new_objective(base: BaseModel, concept: ConceptRecipe, training: TrainingRecipe, prompts: Prompts) -> ScoreMatching:
    """The losses of a concept."""
    kind = ReferenceScoreMatching if training.rollout == "reference" else ScoreMatching
    return kind(base.denoiser, prompts, concept.guidance, training.rollout_guidance)


def new_trajectories(
    base: BaseModel, objective: ScoreMatching, training: TrainingRecipe, share: Share, device: torch.device
) -> Trajectories:
    """Where the states to train on come from; the last DDIM step is not trained on (paper, section 5)."""
    schedule = Schedule.of(base.alphas_cumprod, training.schedule_steps)
    common: dict[str, Any] = {
        "states": training.schedule_steps - 1,
        "batch": training.batch,
        "latent": base.latent_size,
        "seed": training.seed,
        "share": share,
        "device": device,
    }
    if training.rollout == "reference":
        return FreshRollouts(objective, schedule, **common)
    return Pool(objective, schedule, size=training.pool, **common)


def encode_concept(base: BaseModel, concept: ConceptRecipe, device: torch.device) -> Prompts:
    """The concept's prompts as the UNet reads them."""
    return Prompts.of(
        lambda texts: base.encode_prompts(texts).to(device),
        neutrals=concept.neutral,
        positive=concept.target or None,
        negative=concept.negative,
    )


@contextmanager
def _advised(setting: Setting) -> Iterator[None]:
    """Say, beside what went wrong, what is kept and what to change."""
    training = setting.recipe.training
    kept = f"The last state is kept in {setting.folder.path}"
    try:
        yield
    except TrainingDiverged as error:
        where = kept + "; go on from it with --resume" if setting.folder.is_unfinished else "Start again"
        dtype = "" if setting.base.denoiser.unet.dtype == torch.float32 else ", or use --precision float32"
        raise TrainingDiverged(f"{error} {where} and a lower --ram-rate and --sam-rate{dtype}.") from None
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        smaller = [f"--batch {training.batch // 2}"] if training.batch > 1 else []
        smaller += [] if training.checkpointing else ["--checkpointing"]
        smaller += ["--precision bfloat16"] if setting.base.denoiser.unet.dtype == torch.float32 else []
        smaller += ["--width and --height below the native size"]
        raise RespoDiffError(
            f"The device ran out of memory ({str(error).splitlines()[0]}). Use less: {', or '.join(smaller)}."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        what = kept + ": make room and go on with --resume" if setting.folder.is_unfinished else "Make room"
        raise RespoDiffError(f"The disk is full ({error}). {what}.") from None


def _out_of_memory(error: RuntimeError) -> bool:
    # A GPU's is a class of its own, the CPU's is not.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _train_concept(
    setting: Setting, number: int, start: Start, finished: tuple[Concept, ...], stop: StopRequest
) -> Concept:
    recipe, base, accelerator = setting.recipe, setting.base, setting.accelerator
    concept, training = recipe.concepts[number], recipe.training
    objective = new_objective(base, concept, training, setting.prompts[number])
    learner = new_learner(base, concept, training, accelerator)
    trajectories = new_trajectories(base, objective, training, setting.share, accelerator.device)
    if start.tensors:
        learner.load_state(_below("learner/", start.tensors))
        trajectories.load_state(_own_share(_below("trajectories/", start.tensors), setting.share))
    logs = setting.folder.logs if recipe.saving.tensorboard else None
    with (
        counting(base.denoiser.unet) as evaluations,
        Progress(concept.name, concept.steps, start.step, evaluations, logs, accelerator.is_main_process) as progress,
    ):
        for step in range(start.step + 1, concept.steps + 1):
            batch = trajectories.next(step, learner.modules)
            look = objective.look(batch.z, batch.t, batch.neutral)
            result = learner.step(objective, look)
            trajectories.advance(look, result.steered)
            progress.step(step, result, look, learner)
            stopping = _anyone(accelerator, stop)
            if stopping or step % recipe.saving.every == 0 or step == concept.steps:
                _save(setting, number, step, learner, trajectories, finished, progress, result)
            if stopping:
                raise Interrupted(
                    f"Stopped after step {step} of {concept.steps} of {concept.name!r}; all of it is kept in "
                    f"{setting.folder.path}. Go on with --resume.",
                    stopping,
                )
            if recipe.previews.every and step % recipe.previews.every == 0 and accelerator.is_main_process:
                _preview(setting, step, _concept(setting, concept, learner), progress)
    return _concept(setting, concept, learner)


def _save(
    setting: Setting,
    number: int,
    step: int,
    learner: Learner,
    trajectories: Trajectories,
    finished: tuple[Concept, ...],
    progress: Progress,
    result: StepResult,
) -> None:
    """Keep the state; one that holds NaN never replaces a good one."""
    progress.check(step, result)
    own = trajectories.state()
    everyones = {name: setting.accelerator.gather(tensor) for name, tensor in own.items()}
    if not setting.accelerator.is_main_process:
        return
    tensors = {f"learner/{name}": tensor for name, tensor in learner.state().items()}
    tensors |= {f"trajectories/{name}": tensor for name, tensor in everyones.items()}
    for index, concept in enumerate(finished):
        for role, module in zip(ROLES, (concept.ram, concept.sam), strict=True):
            tensors |= {f"finished/{index}/{role}/{name}": tensor for name, tensor in module.tensors.items()}
    progress_made = {
        "concept": number,
        "step": step,
        "begun": setting.begun,
        "processes": setting.accelerator.num_processes,
        "finished": [dict(concept.info.training) for concept in finished],
    }
    setting.folder.save(tensors, progress_made, setting.recipe.resolved())


def _start(setting: Setting, tensors: Mapping[str, torch.Tensor], progress: Mapping[str, Any]) -> Start:
    processes = setting.accelerator.num_processes
    if progress["processes"] != processes:
        raise ResumeError(
            f"{setting.folder.path} was begun by {progress['processes']} processes, these are {processes}: launch as "
            "many, or start again with --restart."
        )
    finished = []
    for index, training in enumerate(progress["finished"]):
        ram, sam = (Transform.of(_below(f"finished/{index}/{role}/", tensors)) for role in ROLES)
        finished.append(Concept(_info(setting, setting.recipe.concepts[index], training), ram, sam))
    return Start(progress["concept"], progress["step"], tensors, tuple(finished))


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _own_share(tensors: Mapping[str, torch.Tensor], share: Share) -> dict[str, torch.Tensor]:
    return {name: tensor.chunk(share.count)[share.index] for name, tensor in tensors.items()}


def _anyone(accelerator: Accelerator, stop: StopRequest) -> int:
    """The signal that asked any of the processes to stop, or 0: all stop after the same step."""
    if accelerator.num_processes == 1:
        return stop.signal or 0
    asked = torch.tensor([stop.signal or 0], device=accelerator.device)
    return int(accelerator.gather(asked).max())


def _preview(setting: Setting, step: int, concept: Concept, progress: Progress) -> None:
    assert setting.preview_condition is not None
    condition = setting.preview_condition
    prompts = condition.rows(torch.arange(1, len(condition), device=condition.context.device))
    empty = condition.rows(torch.zeros(1, dtype=torch.long, device=condition.context.device))
    picture = preview(setting.base, concept, setting.recipe.previews, prompts, empty)
    save_picture(picture, setting.folder.previews / f"{concept.name}-{step:06d}.png")
    progress.picture(step, torch.from_numpy(np.asarray(picture)))


def _encode(recipe: Recipe, base: BaseModel, device: torch.device) -> tuple[tuple[Prompts, ...], Condition | None]:
    """All prompts of the run; the text encoders are not needed any more then."""
    prompts = tuple(encode_concept(base, concept, device) for concept in recipe.concepts)
    previews = base.encode_prompts(["", *recipe.previews.prompts]).to(device) if recipe.previews.every else None
    base.release_text_encoders()
    return prompts, previews


def _concept(setting: Setting, concept: ConceptRecipe, learner: Learner) -> Concept:
    training = setting.recipe.training
    how = {
        "base_model": setting.base.name,
        "base_sha256": setting.base.sha256,
        "guidance": concept.guidance,
        "steps": concept.steps,
        "batch": training.batch * setting.accelerator.num_processes,
        "ram_rate": concept.ram_rate,
        "sam_rate": concept.sam_rate,
        "sam_weight": concept.sam_weight,
        "update": training.update,
        "rollout": training.rollout,
        "precision": str(setting.base.denoiser.unet.dtype).removeprefix("torch."),
        "seed": training.seed,
        "tool": f"respodiff {version('respodiff')}",
    }
    return Concept(_info(setting, concept, how), *learner.finished())


def _info(setting: Setting, concept: ConceptRecipe, how: Mapping[str, Any]) -> ConceptInfo:
    height, width = setting.base.latent_size
    return ConceptInfo(
        concept.name,
        concept.category,
        target=concept.target,
        neutral=" | ".join(concept.neutral),
        negative=concept.negative,
        latent_height=height,
        latent_width=width,
        training=how,
    )


def _adapter(setting: Setting, concepts: list[Concept]) -> Adapter:
    about = {f"modelspec.{key}": value for key, value in setting.recipe.about if value}
    return Adapter(
        setting.base.family,
        {concept.name: concept for concept in concepts},
        setting.base.prediction,
        {"modelspec.date": setting.begun, **about},
        source=setting.recipe.output.name,
    )


def precision(training: TrainingRecipe, device: torch.device) -> torch.dtype:
    """The UNet's dtype: as the recipe says, or the fastest that is safe on the device."""
    if training.precision != "auto":
        dtype: torch.dtype = getattr(torch, training.precision)
        return dtype
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check_output(output: Path, folder: RunFolder, *, resume: bool, restart: bool, force: bool) -> None:
    """Everything about the output that would be a pity to find out at the end."""
    if folder.is_unfinished and not (resume or restart):
        raise ResumeError(
            f"{folder.path} holds an unfinished training: go on with --resume, or start again with --restart."
        )
    if output.exists() and not (force or resume):
        raise RespoDiffError(f"{output} is there already; choose another name, or replace it with --force.")
    output.parent.mkdir(parents=True, exist_ok=True)
    # A file that can be made here, not only a folder that says so.
    with tempfile.TemporaryFile(dir=output.parent, prefix=f".{output.name}."):
        pass
