"""Progress of a training: the bar, TensorBoard logs, and an error when a loss becomes NaN or infinite."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from ...respodiff_core.learning.fit import FitStep, checked_losses, steering_share
from ...respodiff_core.learning.learner import Learner, StepResult
from ..support.progress_bars import progress_bar
from .unet_evaluations import Evaluations

if TYPE_CHECKING:
    from typing import Self

REPORT_EVERY = 10  # steps; reading a loss makes the CPU wait for the device


class Progress:
    """Bar and logs of one concept. `shown` is True in one process only; `mean` averages over all processes."""

    def __init__(
        self,
        name: str,
        steps: int,
        start: int,
        evaluations: Evaluations,
        mean: Callable[[torch.Tensor], torch.Tensor],
        *,
        logs: Path | None,
        shown: bool,
    ) -> None:
        self._name = name
        self._mean = mean
        self._evaluations = evaluations
        self._bar = progress_bar(steps, name, "step", start=start, shown=shown, long_postfix=True)
        self._writer = None
        if logs is not None and shown:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(logs / name), purge_step=start + 1)
        self._since = (time.monotonic(), evaluations.total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._writer is not None:
            # A full disk must not hide the error that ends the training.
            with contextlib.suppress(OSError) if error else contextlib.nullcontext():
                self._writer.close()

    def step(self, step: FitStep, learner: Learner) -> None:
        """Count a step and, every REPORT_EVERY steps, report its losses. Raises TrainingDiverged in all processes."""
        if step.number % REPORT_EVERY == 0 or step.number == self._bar.total:
            self._report(step, learner)  # before the update, so that the log line of this step has them
        self._bar.update()

    def _report(self, step: FitStep, learner: Learner) -> None:
        ram_loss, sam_loss = self._losses(step.number, step.losses)
        now, total = time.monotonic(), self._evaluations.total
        rate = (total - self._since[1]) / max(now - self._since[0], 1e-9)
        self._since = (now, total)
        h = step.frozen.h
        share = None if h is None else float(steering_share(h, learner.modules))
        postfix = {"RAM": f"{ram_loss:.3g}", "SAM": f"{sam_loss:.3g}", "UNet/s": f"{rate:.3g}"}
        if share is not None:
            postfix["of h"] = f"{share:.1%}"
        self._bar.set_postfix(postfix, refresh=False)
        if self._writer is not None:
            scalars = {"loss/ram": ram_loss, "loss/sam": sam_loss, "speed/unet_evaluations_per_second": rate}
            for tag, value in (scalars | ({} if share is None else {"steering/share_of_h": share})).items():
                self._writer.add_scalar(tag, value, step.number)

    def _losses(self, step: int, result: StepResult) -> tuple[float, float]:
        return checked_losses(self._mean(torch.stack([result.ram_loss, result.sam_loss])), self._name, step)

    def image(self, step: int, image: torch.Tensor) -> None:
        """Log a preview sheet, (height, width, 3) uint8."""
        if self._writer is not None:
            self._writer.add_image("preview", image, step, dataformats="HWC")
