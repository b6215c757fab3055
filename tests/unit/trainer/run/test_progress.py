"""What a training says of its progress."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
import torch
from respodiff.respodiff_core.learning.fit import FitStep
from respodiff.respodiff_core.learning.learner import StepResult
from respodiff.trainer.run.progress import Progress
from respodiff.trainer.run.unet_evaluations import Evaluations
from respodiff.trainer.support import progress_bars


@pytest.mark.parametrize("seconds", [0.0, 3600.0], ids=["a line a step", "one line in the end"])
def test_the_last_line_of_a_log_has_the_last_losses_however_slow_the_steps_are(monkeypatch, seconds):
    monkeypatch.setattr(progress_bars, "_SECONDS", seconds)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    frozen = SimpleNamespace(h=None)
    with Progress("square", 12, 0, Evaluations(), lambda losses: losses, logs=None, shown=True) as progress:
        for step in range(1, 13):
            result = StepResult(torch.tensor(float(step)), torch.tensor(0.5), torch.empty(0))
            progress.step(FitStep(step, result, frozen), None)
    last = sys.stderr.getvalue().splitlines()[-1]
    assert last.startswith("square: 12 of 12 steps")
    assert "RAM=12, SAM=0.5" in last
