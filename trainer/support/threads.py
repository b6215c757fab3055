"""CPU threads that do not fight: for cores that others use too, or over work too small to be shared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# By any of these a user has chosen how OpenMP's threads wait.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SMALL = 50e6  # bytes of weights; Stable Diffusion has gigabytes


def passive_waiting(chosen: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variable with which threads that wait for others sleep; empty where the user chose how.

    Must be set before torch is loaded. By default they spin, which takes the cores from threads that have work: two
    threads on two cores that something else uses too may be ten times as slow as one.
    """
    return {} if any(name in chosen for name in _WAITING) else {"OMP_WAIT_POLICY": "PASSIVE"}


def one_thread(chosen: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variable for one thread; empty where the user chose a number."""
    return {} if any(name in chosen for name in _NUMBER) else {"OMP_NUM_THREADS": "1"}


@contextmanager
def fitting_threads(weight_bytes: int) -> Iterator[None]:
    """One thread for a model with weights so small that dividing its tensors costs more than it saves; else, and where
    the user chose a number, as it was.
    """
    import torch

    before = torch.get_num_threads()
    if weight_bytes < _SMALL and one_thread():
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
