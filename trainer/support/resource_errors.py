"""Recognizing out-of-memory and disk-full errors."""

from __future__ import annotations

import errno

import torch


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether a GPU or the CPU ran out of memory."""
    # A GPU has its own exception class; the CPU's allocator and libraries only have messages.
    messages = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        message in str(error) for message in messages
    )


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, the user's quota or the file's size limit is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
