"""Checks whether an adapter fits a model, for the nodes and for evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ModelMismatchError
from ..names import MIDDLE
from .adapter import Adapter
from .families import family_title


def check_fits(
    adapter: Adapter, *, family: str | None, sites: Mapping[str, int], prediction: str | None, model: str
) -> str:
    """Raise ModelMismatchError unless the adapter was made for this family and for `sites` of these channels.

    Returns a warning where the model predicts something else ("epsilon" or "v"; None: unknown) than the one that the
    adapter was made on, else "". `model` is the model's name in messages.
    """
    if adapter.family and adapter.family != family:
        raise ModelMismatchError(
            f"{adapter.source} was made for {family_title(adapter.family)}, {model} is {family_title(family)}. Load a "
            f"{family_title(adapter.family)} checkpoint, or choose an adapter made for {family_title(family)}."
        )
    for concept in adapter.concepts.values():
        for site, channels in concept.sites.items():
            if sites.get(site) != channels:
                raise ModelMismatchError(_other_model(adapter, site, channels, sites.get(site), model))
    if adapter.prediction and prediction and adapter.prediction != prediction:
        return (
            f"{adapter.source} was trained on a model with {adapter.prediction} prediction, {model} uses {prediction} "
            "prediction: results may vary."
        )
    return ""


def _other_model(adapter: Adapter, site: str, channels: int, found: int | None, model: str) -> str:
    if site == MIDDLE:
        difference = f"steers an h-space of {channels} channels, that of {model} has {found}"
    elif found is None:
        difference = f"steers the cross-attention layer {site}, which {model} does not have"
    else:
        difference = f"steers {channels} channels at the cross-attention layer {site}, {model} has {found} there"
    return (
        f"{adapter.source} {difference}: it was made on a different kind of model. Choose an adapter made on this kind "
        "of model."
    )
