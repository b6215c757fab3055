"""On a GPU the host must run ahead: a step of training or sampling neither reads a value back nor waits for an upload.

Told on the device "meta", which has no values: whatever would read one fails there, on any machine. Uploads are
watched, since they work there: a tensor made on the device from Python numbers, or copied to it without
`non_blocking`, makes the host wait.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from respodiff.respodiff_core.adapter.concept import Concept, ConceptInfo, ModuleConcept
from respodiff.respodiff_core.learning.diffusion import Schedule
from respodiff.respodiff_core.learning.fit import FitStep
from respodiff.respodiff_core.learning.learner import Learner, train_step
from respodiff.respodiff_core.learning.objective import Prompts, ScoreMatching
from respodiff.respodiff_core.learning.sampling import sample
from respodiff.respodiff_core.learning.trajectories import Pool, RolloutConfig
from respodiff.respodiff_core.names import Kind, Update
from respodiff.respodiff_core.steering.fair_groups import FairGroup, RowSteering, steer_rows
from respodiff.respodiff_core.steering.steering import Steering, Term, Window
from respodiff.trainer.base.unet_denoiser import UNetDenoiser
from respodiff.trainer.run.progress import REPORT_EVERY, Progress
from respodiff.trainer.run.unet_evaluations import Evaluations
from tiny_unets import ALPHAS, H_SHAPE, LATENT, random_condition, tiny_unet
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NOWHERE = torch.device("meta")
STATES, BATCH = 2, 2


class Uploads(TorchDispatchMode):
    """Counts copies from the host to the device, and apart those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.all = 0
        self.waiting: list[str] = []
        self._made_there = _MadeThere(self)

    def __enter__(self) -> Uploads:
        self._made_there.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._made_there.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        source = {"_to_copy": 0, "copy_": 1}.get(name)
        if source is not None and args[source].device != NOWHERE and result.device == NOWHERE:
            self.all += 1
            # copy_(into, source, non_blocking)
            if not ((kwargs or {}).get("non_blocking") or (name == "copy_" and args[2:] == (True,))):
                self.waiting.append(name)
        return result


class _MadeThere(TorchFunctionMode):
    def __init__(self, uploads: Uploads) -> None:
        super().__init__()
        self._uploads = uploads

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu") == NOWHERE:
            self._uploads.all += 1
            self._uploads.waiting.append(function.__name__)
        return function(*args, **kwargs)


class Training:
    """A concept in training on a tiny UNet without values."""

    def __init__(self, update: Update = "sequential", kind: Kind = "constant", family: str = "sd15") -> None:
        denoiser = UNetDenoiser(tiny_unet(family).to(NOWHERE), ALPHAS, prediction="v" if family == "sd2" else "epsilon")
        prompts = Prompts(random_condition(3, family).to(NOWHERE), empty=0, neutrals=(1,), positive=2, negative=0)
        self.objective = ScoreMatching(denoiser, prompts, guidance=4.0, rollout_guidance=3.0)
        config = RolloutConfig(Schedule.of(ALPHAS, STATES + 1), STATES, BATCH, LATENT, seed=0, device=NOWHERE)
        self.pool = Pool(self.objective, config, BATCH)
        self.learner = Learner(kind, H_SHAPE, ram_rate=1e-2, sam_rate=1e-3, update=update, hidden=8, device=NOWHERE)
        self.steps = 0

    def step(self) -> Any:
        self.steps += 1
        return train_step(self.steps, self.pool, self.objective, self.learner)


@pytest.mark.parametrize(
    ("update", "family"),
    [("sequential", "sd15"), ("sequential", "sd2"), ("sequential", "sdxl"), ("joint", "sd15"), ("shared", "sd15")],
)
def test_a_training_step_never_waits_for_the_device(update, family):
    training = Training(update, family=family)
    training.step()  # rolls out, makes Adam's moments
    with Uploads() as uploads:
        training.step()  # after which all trajectories are born again, with noise of their own
    assert uploads.all > 0
    assert uploads.waiting == []


@pytest.mark.parametrize("kind", ["channel", "mlp", "conv"])
def test_modules_of_every_kind_are_trained_without_waiting(kind):
    training = Training(kind=kind)
    training.step()
    with Uploads() as uploads:
        training.step()
    assert uploads.waiting == []


def test_the_log_reads_the_losses_at_its_interval_and_never_between():
    training = Training()
    frozen, result = training.step()
    with Progress("x", 1000, 0, Evaluations(), lambda tensor: tensor, logs=None, shown=False) as progress:
        for step in range(1, REPORT_EVERY):
            progress.step(FitStep(step, result, frozen), training.learner)
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            progress.step(FitStep(REPORT_EVERY, result, frozen), training.learner)


def uploads_of(steps: int, steer: Any) -> int:
    """How many tensors are brought to the device to draw two pictures in so many steps."""
    training = Training()
    conditions = random_condition(3).to(NOWHERE)
    index = torch.tensor([0, 1, 2]).to(NOWHERE)
    noise = torch.empty(2, 4, *LATENT, device=NOWHERE)
    with Uploads() as uploads:
        z = sample(
            training.objective.denoiser,
            Schedule.of(ALPHAS, steps),
            noise,
            conditions.rows(index[1:]),
            conditions.rows(index[:1]),
            guidance=7.5,
            steer=steer,
        )
    assert z.shape == noise.shape
    return uploads.all


def a_concept() -> Concept:
    return ModuleConcept(ConceptInfo("woman"), *Learner("constant", H_SHAPE, ram_rate=1e-2, sam_rate=1e-3).finished())


def groups_of(*terms: Term) -> Any:
    return RowSteering(Steering(terms).groups())


@pytest.mark.parametrize(
    "steer",
    [
        lambda: None,
        lambda: steer_rows([FairGroup("", (Term(a_concept(), s),)) for s in (0.5, 1.0)]),  # a preview
        lambda: groups_of(Term(a_concept(), 1.0), Term(a_concept(), 1.0, window=Window(0.1, 0.9))),
        lambda: groups_of(Term(a_concept(), 1.0, images=(1.0, 0.0))),  # an evaluation, Fair Batch
    ],
    ids=["unsteered", "at strengths", "a plan", "a plan by image"],
)
def test_more_sampling_steps_bring_nothing_more_to_the_device(steer):
    assert uploads_of(2, steer()) == uploads_of(3, steer())
