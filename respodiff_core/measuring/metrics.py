"""Fairness metrics computed from the labels that a classifier gave to images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def deviation_ratio(labels: Sequence[int] | np.ndarray, classes: int) -> float:
    """Deviation ratio max_c |N_c / N - 1 / C| / (1 - 1 / C): 0 if balanced, 1 if all labels are of one class.

    arXiv 2509.15257, section 5 (originally from SDisc). `labels` (N,) are class numbers from 0 to `classes` - 1.
    Raises ValueError if there are no labels, or if one is out of range.
    """
    labels = np.asarray(labels)
    if not len(labels):
        raise ValueError("a deviation ratio needs at least one label")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be 0 to {classes - 1}, not {labels.min()} to {labels.max()}")
    return float(deviation_of_shares(np.bincount(labels, minlength=classes) / len(labels)))


def deviation_of_shares(shares: np.ndarray) -> np.ndarray:
    """The deviation ratio of shares (..., C) that sum to 1 over the last dimension, as an array of shape (...)."""
    classes = shares.shape[-1]
    ratio: np.ndarray = np.abs(shares - 1 / classes).max(axis=-1) / (1 - 1 / classes)
    return ratio


def parity_gap_of_shares(shares: np.ndarray) -> np.ndarray:
    """The parity gap of shares (..., C) that sum to 1 over the last dimension, as an array of shape (...).

    It is the mean over the classes of |share - 1 / C| (EquiSteer, arXiv 2607.01147).
    """
    gap: np.ndarray = np.abs(shares - 1 / shares.shape[-1]).mean(axis=-1)
    return gap


def lowest(figures: Mapping[int, float]) -> float:
    """The lowest of several figures, for example of the steering accuracies of all groups."""
    return min(figures.values())
