"""What to do when a training fails: said beside the error, with what is kept."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...respodiff_core.errors import RespoDiffError, reason_of
from ..recipes.training_recipe import TrainingRecipe
from ..support.resource_errors import is_disk_full, is_out_of_memory
from .progress import TrainingDiverged
from .run_folder import RunFolder


@contextmanager
def with_recovery_hints(
    training: TrainingRecipe, precision: torch.dtype, folder: RunFolder, *, loading: bool
) -> Iterator[None]:
    """Turn NaN, a full device and a full disk into RespoDiffErrors that say how to go on; `loading`: before the first
    step, when nothing but the models is in memory.
    """
    kept = f"The last state is kept in {folder.path}"
    try:
        yield
    except TrainingDiverged as error:
        where = kept + "; continue from it with --resume" if folder.is_unfinished else "Start again"
        dtype = "" if precision == torch.float32 else ", or use --precision float32"
        raise TrainingDiverged(f"{error} {where} and a lower --ram-rate and --sam-rate{dtype}.") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = [] if loading else _smaller(training)
        smaller += ["--precision bfloat16"] if precision == torch.float32 else []
        smaller += [] if loading else ["--width and --height below the native size"]
        smaller = smaller or ["--device cpu"]
        again = " Give --restart with them." if folder.is_unfinished else ""
        where = "while the models were loaded" if loading else "in training"
        raise RespoDiffError(
            f"The device ran out of memory {where} ({reason_of(error)}). Use less: {', or '.join(smaller)}.{again}"
        ) from None
    except OSError as error:
        if error.errno == errno.EROFS:
            what = kept + ": continue with --resume" if folder.is_unfinished else "Start again"
            raise RespoDiffError(f"The disk can only be read ({error}). {what} when it can be written to.") from None
        if not is_disk_full(error):
            raise
        what = kept + ": make room and continue with --resume" if folder.is_unfinished else "Make room"
        raise RespoDiffError(f"The disk is full ({error}). {what}.") from None


def _smaller(training: TrainingRecipe) -> list[str]:
    fewer = [batch for batch in range(1, training.batch) if training.pool % batch == 0]
    return ([f"--batch {fewer[-1]}"] if fewer else []) + ([] if training.checkpointing else ["--checkpointing"])
