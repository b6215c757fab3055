"""CPU thread settings for cores that are shared with other processes, and for small models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Environment variables by which users choose how OpenMP threads wait.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SMALL = 50e6  # bytes of weights; Stable Diffusion has gigabytes


def passive_waiting(chosen: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variable that makes waiting threads sleep; empty if the user has set one.

    Must be set before torch is loaded. By default waiting threads spin, which takes cores from threads with work: two
    threads on two cores that other processes use too may be ten times slower than one.
    """
    return {} if any(name in chosen for name in _WAITING) else {"OMP_WAIT_POLICY": "PASSIVE"}


def one_thread(chosen: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variable for one thread; empty if the user has set a number."""
    return {} if any(name in chosen for name in _NUMBER) else {"OMP_NUM_THREADS": "1"}


@contextmanager
def fitting_threads(weight_bytes: int) -> Iterator[None]:
    """Use one thread for a model so small that splitting its tensors costs more than it saves, unless the user has set
    a number.
    """
    import torch

    before = torch.get_num_threads()
    if weight_bytes < _SMALL and one_thread():
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
