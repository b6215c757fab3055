"""What to do when a training fails: said beside the error, with what is kept."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...respodiff_core.errors import RespoDiffError
from ..recipe import TrainingRecipe
from .folder import RunFolder
from .progress import TrainingDiverged

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def advised(training: TrainingRecipe, precision: torch.dtype, folder: RunFolder) -> Iterator[None]:
    """Turn NaN, a full device and a full disk into RespoDiffErrors that say how to go on."""
    kept = f"The last state is kept in {folder.path}"
    try:
        yield
    except TrainingDiverged as error:
        where = kept + "; go on from it with --resume" if folder.is_unfinished else "Start again"
        dtype = "" if precision == torch.float32 else ", or use --precision float32"
        raise TrainingDiverged(f"{error} {where} and a lower --ram-rate and --sam-rate{dtype}.") from None
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        smaller = [f"--batch {training.batch // 2}"] if training.batch > 1 else []
        smaller += [] if training.checkpointing else ["--checkpointing"]
        smaller += ["--precision bfloat16"] if precision == torch.float32 else []
        smaller += ["--width and --height below the native size"]
        raise RespoDiffError(
            f"The device ran out of memory ({str(error).splitlines()[0]}). Use less: {', or '.join(smaller)}."
        ) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        what = kept + ": make room and go on with --resume" if folder.is_unfinished else "Make room"
        raise RespoDiffError(f"The disk is full ({error}). {what}.") from None


def _out_of_memory(error: RuntimeError) -> bool:
    # A GPU's is a class of its own, the CPU's is not.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
