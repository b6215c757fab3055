"""Error messages of a failed training: what happened, what is saved, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...respodiff_core.errors import RespoDiffError, TrainingDiverged, reason_of
from ..recipes.training_recipe import TrainingRecipe
from ..support.resource_errors import is_disk_full, is_out_of_memory
from .run_folder import RunFolder


@contextmanager
def with_recovery_hints(
    training: TrainingRecipe, precision: torch.dtype, folder: RunFolder, *, loading: bool
) -> Iterator[None]:
    """Turn NaN, a full device and a full disk into RespoDiffErrors that say what to do; `loading`: before the first
    step, when only the models are in memory.
    """
    kept = f"The last saved state is in {folder.path}"
    try:
        yield
    except TrainingDiverged as error:
        where = kept + "; resume from it with --resume" if folder.is_unfinished else "Start again"
        dtype = "" if precision == torch.float32 else ", or use --precision float32"
        raise TrainingDiverged(f"{error} {where} and a lower --ram-rate and --sam-rate{dtype}.") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = [] if loading else _smaller(training)
        smaller += ["--precision bfloat16"] if precision == torch.float32 else []
        smaller += [] if loading else ["--width and --height below the native size"]
        smaller = smaller or ["--device cpu"]
        again = " Add --restart as well." if folder.is_unfinished else ""
        where = "while loading the models" if loading else "during training"
        raise RespoDiffError(
            f"The device ran out of memory {where} ({reason_of(error)}). Use less: {', or '.join(smaller)}.{again}"
        ) from None
    except OSError as error:
        if error.errno == errno.EROFS:
            what = kept + "; resume with --resume" if folder.is_unfinished else "Start again"
            raise RespoDiffError(f"The disk is read-only ({error}). {what} when it is writable.") from None
        if not is_disk_full(error):
            raise
        what = kept + "; free some space and resume with --resume" if folder.is_unfinished else "Free some space"
        raise RespoDiffError(f"The disk is full ({error}). {what}.") from None


def _smaller(training: TrainingRecipe) -> list[str]:
    fewer = [batch for batch in range(1, training.batch) if training.pool % batch == 0]
    return ([f"--batch {fewer[-1]}"] if fewer else []) + ([] if training.checkpointing else ["--checkpointing"])
