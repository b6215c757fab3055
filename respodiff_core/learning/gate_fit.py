"""Fits the gate of an axis (adapter.gate) to the text encodings of contrasting prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..adapter.gate import Gate, likeness

_LEAST_DIFFERENCE = 0.05
"""Of the cosines of a group's prompts and of the neutral ones."""


def gate_of(tokens: Sequence[torch.Tensor]) -> Gate | None:
    """The gate from text encodings (1 + G, T, C) in each context: of the neutral prompt, then of each group's.

    A group's reading is the difference of its mean token from the neutral one, scaled so that the mean response is -1
    to the neutral prompts and 1 to its own. None if the encodings of a group's prompts hardly differ from the neutral.
    """
    means = torch.stack([each.mean(1) for each in tokens]).mean(0)
    center, readings = means[0], means[1:] - means[0]
    responses = torch.stack([likeness(each, center, readings) for each in tokens]).mean(0)
    low, high = responses[0], responses[1:].diagonal()
    if not (high - low > _LEAST_DIFFERENCE * readings.norm(dim=-1)).all():
        return None
    scale = 2 / (high - low)
    return Gate(center, readings * scale[:, None], -scale * (high + low) / 2)
