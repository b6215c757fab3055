"""Checks whether an adapter fits a model, for the nodes and for evaluation."""

from __future__ import annotations

from ..errors import ModelMismatchError
from .adapter import Adapter
from .families import family_title


def check_fits(adapter: Adapter, *, family: str | None, channels: int, prediction: str | None, model: str) -> str:
    """Raise ModelMismatchError unless the adapter was made for this family and for h of this many channels.

    Returns a warning if the prediction type ("epsilon" or "v"; None: unknown) differs from that of the model that the
    adapter was trained on, else "". `model` is the model's name in messages.
    """
    if adapter.family and adapter.family != family:
        raise ModelMismatchError(
            f"{adapter.source} was made for {family_title(adapter.family)}, {model} is {family_title(family)}. Load a "
            f"{family_title(adapter.family)} checkpoint, or choose an adapter made for {family_title(family)}."
        )
    for concept in adapter.concepts.values():
        if concept.channels != channels:
            raise ModelMismatchError(
                f"{adapter.source} steers an h-space of {concept.channels} channels, that of {model} has {channels}: "
                "it was trained on a different kind of model. Choose an adapter trained on this kind of model."
            )
    if adapter.prediction and prediction and adapter.prediction != prediction:
        return (
            f"{adapter.source} was trained on a model with {adapter.prediction} prediction, {model} uses {prediction} "
            "prediction: results may vary."
        )
    return ""
