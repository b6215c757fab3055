"""Telling a full device and a full disk from other errors."""

from __future__ import annotations

import errno

import torch


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether a GPU or the CPU had no memory left."""
    # A GPU's is a class of its own; the CPU's allocator and libraries say it in words.
    words = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, the user's quota or the file's size limit is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
