"""Figures of fairness and faithfulness, from labels that a classifier gave to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def deviation_ratio(labels: Sequence[int] | np.ndarray, classes: int) -> float:
    """max_c |N_c / N - 1 / C| / (1 - 1 / C): 0 balanced, 1 all of one class (paper, section 5, from SDisc).

    `labels` are class numbers from 0; ValueError where there are none, or one is out of range.
    """
    labels = np.asarray(labels)
    if not len(labels):
        raise ValueError("a deviation ratio needs at least one label")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be 0 to {classes - 1}, not {labels.min()} to {labels.max()}")
    return float(deviation_of_shares(np.bincount(labels, minlength=classes) / len(labels)))


def deviation_of_shares(shares: np.ndarray) -> np.ndarray:
    """The deviation ratio of shares (..., C) that add up to 1; (...)."""
    classes = shares.shape[-1]
    ratio: np.ndarray = np.abs(shares - 1 / classes).max(axis=-1) / (1 - 1 / classes)
    return ratio


def lowest(figures: Mapping[int, float]) -> float:
    """The worst of several figures."""
    return min(figures.values())
